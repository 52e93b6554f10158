// Replicas with records in PostgreSQL and all content in S3, beside a Veneer that has both on its disk.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { OBJECT_STORE_KEY, startObjectStore } from '../clients/support/object-store.ts';
import { startPostgres } from '../clients/support/postgres.ts';
import type { Benchmark, Environment } from './benchmark.ts';
import { inTurn, pick, type Side } from './comparison.ts';
import { NAMES, repositoryAt } from './environment.ts';
import { pushImage, pushRandomBlob } from './image.ts';
import type { Server } from './processes.ts';
import { measurePulls, settleDisk } from './pulls.ts';
import { startWith } from './registries.ts';
import { measureRequests, request } from './requests.ts';

const WARM_BYTES = 256 * 2 ** 20;
const COLD_BYTES = 128 * 2 ** 20;
const POLL_MS = 50;
const peer = 'Veneer without';
const having = 'with PostgreSQL and S3';

const warm: Benchmark = {
  rows: [
    { name: 'fleet-manifest', what: `warm manifest by digest, ${having}`, unit: 'requests/s', better: 'higher', peer },
    { name: 'fleet-manifest-processor', what: `processor time of a request for it`, unit: 'µs', better: 'lower', peer },
    { name: 'fleet-blob', what: `warm blob of 256 MiB, ${having}`, unit: 'MiB/s', better: 'higher', peer },
    { name: 'fleet-blob-processor', what: 'processor time of a GiB of it', unit: 'ms', better: 'lower', peer },
  ],
  async prepare(environment) {
    const { first, alone } = await startSides(environment);
    const servers: Record<Side, Server> = { veneer: first, peer: alone };
    const upstream = repositoryAt(await environment.upstream());
    const index = await pushImage(upstream, 'fleet');
    const blob = await pushRandomBlob(upstream, WARM_BYTES);
    for (const server of [first, alone]) await measurePulls(server, `${repositoryOf(server)}/blobs/${blob}`);
    return async pair => {
      const manifests = await inTurn(pair, side =>
        measureRequests(servers[side], `${repositoryOf(servers[side])}/manifests/${index}`),
      );
      const blobs = await inTurn(pair, side =>
        measurePulls(servers[side], `${repositoryOf(servers[side])}/blobs/${blob}`),
      );
      return [
        ...[pick(manifests, 'rate'), pick(manifests, 'processor')],
        ...[pick(blobs, 'rate'), pick(blobs, 'processor')],
      ];
    };
  },
};

/** Each pair of a new blob. */
const second: Benchmark = {
  rows: [
    {
      ...{ name: 'fleet-second', what: 'cold blob of 128 MiB, which another replica has', unit: 'MiB/s' },
      ...{ better: 'higher', peer },
    },
    {
      ...{ name: 'fleet-second-processor', what: 'processor time of a GiB of it', unit: 'ms' },
      ...{ better: 'lower', peer },
    },
  ],
  async prepare(environment) {
    const { first, second: other, alone } = await startSides(environment);
    const servers: Record<Side, Server> = { veneer: other, peer: alone };
    const upstream = repositoryAt(await environment.upstream());
    return async pair => {
      const blob = await pushRandomBlob(upstream, COLD_BYTES);
      await measurePulls(first, `${repositoryOf(first)}/blobs/${blob}`);
      await waitUntilShared(first, blob);
      const taken = await inTurn(pair, async side => {
        await settleDisk();
        return measurePulls(servers[side], `${repositoryOf(servers[side])}/blobs/${blob}`);
      });
      return [pick(taken, 'rate'), pick(taken, 'processor')];
    };
  },
};

export const FLEET: readonly Benchmark[] = [warm, second];

/** Two replicas, and one that is alone. */
async function startSides({ directory, stack, upstream }: Environment) {
  const registry = await upstream();
  const [postgres, store] = await Promise.all([startPostgres(), startObjectStore()]);
  stack.defer(() => postgres.close());
  stack.defer(() => store.close());
  const config = {
    state: { postgres: { url: postgres.url, replicas: true } },
    content: { s3: { endpoint: store.endpoint, bucket: store.bucket, upstreams: true } },
  };
  const start = async (name: string, own: object) => {
    const server = await startWith(join(directory, name), registry, { config: own, env: OBJECT_STORE_KEY });
    stack.defer(() => server.stop());
    return server;
  };
  return {
    first: await start('first', config),
    second: await start('second', config),
    alone: await start('alone', {}),
  };
}

/** Its link is written once the bucket has it. */
async function waitUntilShared({ address }: Server, blob: string): Promise<void> {
  const url = `http://${address}/v1/cache/content?repository=${NAMES.veneer}`;
  while (!(await (await request(url)).text()).includes(blob)) await sleep(POLL_MS);
}

function repositoryOf({ address }: Server): string {
  return `http://${address}/v2/${NAMES.veneer}`;
}
