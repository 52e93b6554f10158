// The collection of what nobody needs any more, by a process of its own, on data that no server has open.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { createHostedRecords, holderKey, linkKey } from '../../src/hosted/records.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import type { Benchmark } from './benchmark.ts';
import { createClient } from './client.ts';
import { inTurn, type Side } from './comparison.ts';
import { time } from './load.ts';
import { findProgram, run } from './processes.ts';
import { settleDisk } from './pulls.ts';
import { createBlob, createImage, pushImage, type RandomBlob } from './random-image.ts';
import { CONFIGS, directoriesIn, repositoryIn, startHosts, stopPair, VENEER } from './registries.ts';

const REMOVED = Number(process.env.VENEER_BENCH_REMOVED ?? 100_000);
const REPOSITORY = 'bench/collected';
const BYTES = 1024;
const WRITTEN_AT_ONCE = 1000;

export const REMOVAL: Benchmark = {
  rows: [
    {
      name: 'collect-100k',
      what: `collection that removes ${REMOVED.toLocaleString('en').replaceAll(',', ' ')} blobs`,
      unit: 'ms',
      better: 'lower',
    },
  ],
  maxPairs: 3,
  async prepare({ directory }) {
    return async pair => {
      const data = join(directory, `removed-${pair}`);
      await pushOne(data);
      await addUnneeded(data);
      await settleDisk();
      return [await inTurn(pair, side => timeCollection(data, side))];
    };
  },
};

/** An image that stays: both have the repository then. */
async function pushOne(directory: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const hosts = stack.adopt(await startHosts(directory), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  const repositories = repositoryIn(hosts, REPOSITORY);
  const image = createImage(BYTES);
  for (const repository of [repositories.veneer, repositories.peer]) await pushImage(client, repository, image);
}

/** The same blobs of no image to both, in their files and records: to push so many takes minutes. */
async function addUnneeded(directory: string): Promise<void> {
  const { veneer, peer } = directoriesIn(directory);
  const records = createSqliteStore({ path: join(veneer, 'data', 'records.db') });
  const { blobs, holders, write } = createHostedRecords(records);
  const repository = `local/${REPOSITORY}`;
  const pushedAt = new Date().toISOString();
  for (let count = 0; count < REMOVED; count += WRITTEN_AT_ONCE) {
    const added = Array.from({ length: Math.min(WRITTEN_AT_ONCE, REMOVED - count) }, () => createBlob(BYTES));
    for (const blob of added) {
      writeToVeneer(join(veneer, 'data', 'hosted'), blob);
      writeToPeer(join(peer, 'data', 'docker', 'registry', 'v2'), blob);
    }
    const digests = added.map(({ digest }) => parseDigest(digest));
    const puts = digests.flatMap(digest => [
      blobs.putting(linkKey(repository, digest), { size: BYTES, pushedAt }),
      holders.putting(holderKey(digest, 'blob', repository), {}),
    ]);
    await write(puts);
  }
  await records.close();
}

function writeToVeneer(directory: string, { bytes, digest }: RandomBlob): void {
  const hex = digest.slice('sha256:'.length);
  const folder = join(directory, 'blobs', 'sha256', hex.slice(0, 2));
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, hex), bytes);
}

function writeToPeer(directory: string, { bytes, digest }: RandomBlob): void {
  const hex = digest.slice('sha256:'.length);
  const folder = join(directory, 'blobs', 'sha256', hex.slice(0, 2), hex);
  const link = join(directory, 'repositories', REPOSITORY, '_layers', 'sha256', hex);
  for (const each of [folder, link]) mkdirSync(each, { recursive: true });
  writeFileSync(join(folder, 'data'), bytes);
  writeFileSync(join(link, 'link'), digest);
}

/** In milliseconds, on the data of one side of the pair in `directory`. */
export async function timeCollection(directory: string, side: Side): Promise<number> {
  const collect = { veneer: collectVeneer, peer: collectPeer }[side];
  return collect(join(directoriesIn(directory)[side], CONFIGS[side]));
}

const reportSchema = z.object({
  startedAt: z.coerce.date(),
  finishedAt: z.coerce.date(),
  removed: z.object({ blobs: z.int().positive() }),
});

/** By its report: the start of the process, which costs the same with any data, would hide how the rest grows. */
async function collectVeneer(config: string): Promise<number> {
  const report = await run({ file: process.execPath, args: [VENEER, 'gc', '--json', '--config', config] });
  const { startedAt, finishedAt } = reportSchema.parse(JSON.parse(report));
  return finishedAt.getTime() - startedAt.getTime();
}

async function collectPeer(config: string): Promise<number> {
  const args = ['garbage-collect', '--quiet', config];
  return time(() =>
    run({ file: findProgram('registry'), args, env: { OTEL_TRACES_EXPORTER: 'none', REGISTRY_LOG_LEVEL: 'error' } }),
  );
}
