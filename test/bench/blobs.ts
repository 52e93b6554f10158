// Many small blobs in one repository: how fast they come in, and what it costs that they are there, at a start and in a collection.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Benchmark } from './benchmark.ts';
import { type Client, createClient } from './client.ts';
import { timeCollection } from './collection.ts';
import { type Figures, inTurn, median, pick, type Side } from './comparison.ts';
import { forEach, time } from './load.ts';
import { readMemory } from './memory.ts';
import { readProcessorTime } from './processor.ts';
import { settleDisk } from './pulls.ts';
import { createBlob, createImageOf, pushInOne, pushManifest, type RandomBlob } from './random-image.ts';
import { directoriesIn, repositoryIn, startHost, startHosts, stopPair } from './registries.ts';
import { request } from './requests.ts';

/** A multiple of 1000. */
const BLOBS = Number(process.env.VENEER_BENCH_BLOBS ?? 20_000);
const BYTES = 1024;
const PARALLEL = 16;
const BLOBS_OF_IMAGE = 90;
const BLOBS_PER_IMAGE = 100;
const STARTS = 5;
/** After which a process that was started has nothing left to do. */
const IDLE_MS = 2_000;

const COUNT = BLOBS.toLocaleString('en').replaceAll(',', ' ');

export const MANY_BLOBS: Benchmark = {
  rows: [
    { name: 'push-blobs', what: `push of ${COUNT} blobs of 1 KiB, 16 at once`, unit: 'blobs/s', better: 'higher' },
    { name: 'collect', what: `collection among ${COUNT} blobs`, unit: 'ms', better: 'lower' },
    { name: 'collect-growth', what: 'the same, to one among a tenth', unit: 'times', better: 'lower' },
    { name: 'start-blobs', what: `start with ${COUNT} blobs`, unit: 'ms', better: 'lower' },
    { name: 'start-growth', what: 'the same, to a start with nothing', unit: 'times', better: 'lower' },
  ],
  maxPairs: 1,
  async prepare({ directory }) {
    return async pair => {
      const data = join(directory, `blobs-${pair}`);
      const tenth = await pushToBoth(data, BLOBS / 10);
      const tenthCollected = await inTurn(pair, side => timeCollection(data, side));
      const rest = await pushToBoth(data, BLOBS - BLOBS / 10);
      const collected = await inTurn(pair, side => timeCollection(data, side));
      const started = await inTurn(pair, side => timeStarts(data, side));
      const startedEmpty = await inTurn(pair, side => timeStarts(join(directory, 'empty'), side));
      return [
        combine(tenth, rest, (a, b) => BLOBS / (a + b)),
        collected,
        combine(collected, tenthCollected, divide),
        started,
        combine(started, startedEmpty, divide),
      ];
    };
  },
};

/** Of a process that has no data yet. */
export const START: Benchmark = {
  rows: [
    { name: 'start', what: 'start with nothing', unit: 'ms', better: 'lower' },
    { name: 'start-processor', what: 'processor time of a start with nothing', unit: 'ms', better: 'lower' },
    { name: 'idle-memory', what: 'memory after a start with nothing', unit: 'MiB', better: 'lower' },
  ],
  async prepare({ directory }) {
    return async pair => {
      const taken = await inTurn(pair, side => measureStart(directory, side));
      return [pick(taken, 'milliseconds'), pick(taken, 'processor'), pick(taken, 'mebibytes')];
    };
  },
};

/** Starts of Veneer with what a cache has, beside its starts with nothing: the peer does not look at its data either. */
export const START_WITH: readonly Benchmark[] = [20, 100].map(thousands => ({
  rows: [
    {
      ...{ name: `start-${thousands}k`, what: `start with ${thousands} 000 blobs in the cache`, unit: 'ms' },
      ...{ better: 'lower', peer: 'Veneer without' },
    },
  ],
  async prepare({ directory }) {
    const directories = { veneer: join(directory, 'full'), peer: join(directory, 'empty') };
    await fillCache(directoriesIn(directories.veneer).veneer, thousands * 1000);
    await settleDisk();
    return async pair => {
      const taken = await inTurn(pair, side => measureStart(directories[side], 'veneer'));
      return [pick(taken, 'milliseconds')];
    };
  },
}));

/** Writes blobs where a cache keeps them, as docs/storage.md says: through an upstream they would take minutes. */
async function fillCache(directory: string, count: number): Promise<void> {
  const folder = join(directory, 'data', 'content', 'blobs', 'sha256');
  const parts = Array.from({ length: 256 }, (_, part) => join(folder, part.toString(16).padStart(2, '0')));
  await Promise.all(parts.map(part => mkdir(part, { recursive: true })));
  await forEach(Array(count).keys(), PARALLEL, async () => {
    const { bytes, digest } = createBlob(BYTES);
    const hex = digest.replace('sha256:', '');
    await writeFile(join(folder, hex.slice(0, 2), hex), bytes);
  });
}

/** Seconds that each side takes for its blobs; the images that need most of them come later. */
async function pushToBoth(directory: string, count: number): Promise<Figures> {
  await using stack = new AsyncDisposableStack();
  const hosts = stack.adopt(await startHosts(directory), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  const repository = repositoryIn(hosts, 'bench/blobs');
  return await inTurn(0, async side => {
    const blobs = Array.from({ length: count }, () => createBlob(BYTES));
    await settleDisk();
    const push = () => forEach(blobs, PARALLEL, blob => pushInOne(client, repository[side], blob));
    const milliseconds = await time(push);
    await pushImages(client, repository[side], blobs);
    return milliseconds / 1000;
  });
}

/** Of each hundred blobs, ten are in no image. */
async function pushImages(client: Client, repository: string, blobs: readonly RandomBlob[]): Promise<void> {
  const groups = Array.from({ length: blobs.length / BLOBS_PER_IMAGE }, (_, group) =>
    blobs.slice(group * BLOBS_PER_IMAGE, group * BLOBS_PER_IMAGE + BLOBS_OF_IMAGE),
  );
  await forEach(groups, PARALLEL, async ([config, ...layers]) => {
    if (!config) throw new Error('an image without blobs');
    const { tag, manifest } = createImageOf(config, layers);
    await pushManifest(client, `${repository}/manifests/${tag}`, manifest);
  });
}

/** Milliseconds from the start of the process to its first answer: the median. */
async function timeStarts(directory: string, side: Side): Promise<number> {
  const starts: number[] = [];
  while (starts.length < STARTS) starts.push((await measureStart(directory, side)).milliseconds);
  return median(starts);
}

async function measureStart(directory: string, side: Side) {
  const start = performance.now();
  const server = await startHost(directory, side);
  try {
    await request(`http://${server.address}/v2/`);
    const milliseconds = performance.now() - start;
    const processor = await readProcessorTime(server);
    await sleep(IDLE_MS);
    return { milliseconds, processor, mebibytes: await readMemory(server) };
  } finally {
    await server.stop();
  }
}

function combine(a: Figures, b: Figures, work: (a: number, b: number) => number): Figures {
  return { veneer: work(a.veneer, b.veneer), peer: work(a.peer, b.peer) };
}

const divide = (a: number, b: number) => a / b;
