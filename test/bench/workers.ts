// What a second worker brings: warm manifests and blobs of a Veneer with two, beside the same Veneer with one.
import { join } from 'node:path';
import type { Benchmark, Environment } from './benchmark.ts';
import { type Figures, inTurn, pick, type Side } from './comparison.ts';
import { NAMES, repositoryAt } from './environment.ts';
import { pushImage, pushRandomBlob } from './image.ts';
import type { Server } from './processes.ts';
import { measurePulls, settleDisk } from './pulls.ts';
import { startWith } from './registries.ts';
import { measureRequests } from './requests.ts';

const BYTES = 256 * 2 ** 20;
const CLIENTS = 8;
const PEER = 'one worker';

const manifests: Benchmark = {
  rows: [
    { name: 'workers-manifest', what: 'warm manifest by digest, 2 workers', ...higher('requests/s') },
    { name: 'workers-manifest-processor', what: 'processor time of a request for it, 2 workers', ...lower('µs') },
  ],
  async prepare(environment) {
    const servers = await startBoth(environment);
    const index = await pushImage(repositoryAt(await environment.upstream()), 'workers');
    return async pair => {
      const taken = await inTurn(pair, side =>
        measureRequests(servers[side], urlOf(servers[side], `manifests/${index}`)),
      );
      return [pick(taken, 'rate'), pick(taken, 'processor')];
    };
  },
};

const blobs: Benchmark = {
  rows: [
    { name: 'workers-blob-8', what: 'warm blob of 256 MiB, 8 clients, 2 workers', ...higher('MiB/s') },
    { name: 'workers-blob-8-processor', what: 'processor time of a GiB of it, 2 workers', ...lower('ms') },
  ],
  async prepare(environment) {
    const servers = await startBoth(environment);
    const blob = await pushRandomBlob(repositoryAt(await environment.upstream()), BYTES);
    const pull = (side: Side) => measurePulls(servers[side], urlOf(servers[side], `blobs/${blob}`), CLIENTS);
    // Each worker verifies it once.
    await inTurn(0, pull);
    await inTurn(0, pull);
    await settleDisk();
    return async pair => {
      const taken = await inTurn(pair, pull);
      return [pick(taken, 'rate'), pick(taken, 'processor')] satisfies readonly Figures[];
    };
  },
};

export const WORKERS: readonly Benchmark[] = [manifests, blobs];

async function startBoth({ directory, stack, upstream }: Environment): Promise<Record<Side, Server>> {
  const registry = await upstream();
  const start = async (workers: number) => {
    const server = await startWith(join(directory, String(workers)), registry, { config: { workers } });
    stack.defer(() => server.stop());
    return server;
  };
  return { veneer: await start(2), peer: await start(1) };
}

function urlOf({ address }: Server, path: string): string {
  return `http://${address}/v2/${NAMES.veneer}/${path}`;
}

function higher(unit: string) {
  return { unit, better: 'higher', peer: PEER } as const;
}

function lower(unit: string) {
  return { unit, better: 'lower', peer: PEER } as const;
}
