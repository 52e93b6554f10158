// A mixed load for minutes: whether memory follows what a process has done. It is compared with itself, after the first minutes.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { createMixedLoad } from '../support/mixed-load.ts';
import { startRegistry } from '../support/registry.ts';
import type { Benchmark } from './benchmark.ts';
import { type Figures, median } from './comparison.ts';
import { readMemory, readPeakMemory } from './memory.ts';
import { startServer } from './processes.ts';
import { CONFIGS, VENEER } from './registries.ts';

const MINUTES = Number(process.env.VENEER_BENCH_MINUTES ?? 6);
const SETTLED_MINUTES = Math.min(5, MINUTES / 2);
/** What memory is at a time is the median of so long before. */
const SPAN_MS = 30_000;
const SAMPLE_EVERY_MS = 500;
const PARALLEL = 4;
const PAUSE_MS = 40;

/** Of a process that has done nothing else. */
export const MIXED_LOAD: Benchmark = {
  rows: [
    {
      name: 'mixed-memory',
      what: `memory after ${MINUTES} minutes of a mixed load, to that after ${SETTLED_MINUTES}`,
      unit: 'MiB',
      better: 'lower',
      peer: 'itself',
    },
    {
      name: 'mixed-peak',
      what: `peak memory of ${MINUTES} minutes of a mixed load, to that after ${SETTLED_MINUTES}`,
      unit: 'MiB',
      better: 'lower',
      peer: 'itself',
    },
  ],
  maxPairs: 1,
  prepare: async ({ directory }) => {
    return () => measureMixedLoad(directory);
  },
};

async function measureMixedLoad(directory: string): Promise<readonly Figures[]> {
  await using stack = new AsyncDisposableStack();
  const registry = stack.adopt(await startRegistry(), ({ close }) => close());
  const folder = join(directory, 'mixed');
  await mkdir(folder, { recursive: true });
  const config = join(folder, CONFIGS.veneer);
  const settings = { dataDir: join(folder, 'data'), upstreams: { lab: { url: registry.url } } };
  await writeFile(config, JSON.stringify({ ...settings, listen: '127.0.0.1:0', builds: { backends: ['embedded'] } }));
  // As the image has it.
  const env = { MALLOC_ARENA_MAX: '2' };
  const server = await startServer({ file: process.execPath, args: [VENEER, '--config', config], env });
  stack.defer(() => server.stop());
  const run = createMixedLoad({ address: server.address, registry });
  const startedAt = performance.now();
  const passedMs = () => performance.now() - startedAt;
  const endMs = MINUTES * 60_000;
  let rounds = 0;

  async function work(): Promise<void> {
    while (passedMs() < endMs) {
      await run(rounds++);
      await setTimeout(PAUSE_MS);
    }
  }

  const settled: number[] = [];
  const last: number[] = [];
  async function sample(): Promise<void> {
    for (let ms = passedMs(); ms < endMs; ms = passedMs()) {
      const mebibytes = await readMemory(server);
      if (Math.abs(ms - SETTLED_MINUTES * 60_000 + SPAN_MS / 2) < SPAN_MS / 2) settled.push(mebibytes);
      if (ms > endMs - SPAN_MS) last.push(mebibytes);
      await setTimeout(SAMPLE_EVERY_MS);
    }
  }

  await Promise.all([sample(), ...Array.from({ length: PARALLEL }, work)]);
  const [veneer, peer] = [median(last), median(settled)];
  return [
    { veneer, peer },
    { veneer: await readPeakMemory(server), peer },
  ];
}
