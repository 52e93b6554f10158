// Pulls of whole images through proxies, as clients do them: the manifest, then its config and its layers, three at a time.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Benchmark, Environment } from './benchmark.ts';
import { type Client, createClient } from './client.ts';
import { inTurn, pick, type Side } from './comparison.ts';
import { repositoriesOf, repositoryAt } from './environment.ts';
import { digestOf, encode } from './image.ts';
import { forEach, time } from './load.ts';
import { startServer } from './processes.ts';
import { countTraffic, settleDisk } from './pulls.ts';
import { createBlob, createImageOf, pushImage, type RandomImage } from './random-image.ts';
import { startRuled } from './registries.ts';

const LAYERS_MIB = [32, 16, 8, 4, 4];
const LAYERS_AT_ONCE = 3;
const PARALLEL = 20;

/** Pulled plain by both sides, or by Veneer through a rule for each image. */
interface How {
  readonly isRuled: boolean;
  /** Beside a program that does no more than it must, in place of the registry. */
  readonly isLimit?: boolean;
}

/** Each pair of a new image: cold, and then warm. */
function oneClient({ isRuled, isLimit = false }: How): Benchmark {
  const [rule, how] = isRuled ? ['-rule', ' through a rule'] : ['', ''];
  const suffix = `${rule}${isLimit ? '-limit' : ''}`;
  const image = `image of 64 MiB${how}, one client`;
  const beside = isLimit ? { peer: 'bare server' } : {};
  return {
    rows: [
      { name: `cold-image${suffix}`, what: `cold pull of an ${image}`, unit: 'ms', better: 'lower', ...beside },
      { name: `warm-image${suffix}`, what: `warm pull of an ${image}`, unit: 'ms', better: 'lower', ...beside },
    ],
    async prepare(environment) {
      const repositories = await findRepositories(environment, { isRuled, isLimit });
      const upstream = repositoryAt(await environment.upstream());
      return async pair => {
        const tag = await pushNew(upstream);
        const pull = () => inTurn(pair, side => pullTimed(repositories[side], tag));
        return [await pull(), await pull()];
      };
    },
  };
}

function manyClients({ isRuled }: How): Benchmark {
  const [suffix, how] = isRuled ? ['-rule', ' through a rule'] : ['', ''];
  const name = `cold-image-${PARALLEL}${suffix}`;
  const what = `${PARALLEL} parallel cold pulls of an image of 64 MiB${how}`;
  return {
    rows: [
      { name, what, unit: 'ms', better: 'lower' },
      { name: `${name}-requests`, what: `upstream requests for ${what}`, unit: 'requests', better: 'lower' },
      { name: `${name}-bytes`, what: `upstream bytes for ${what}`, unit: 'MiB', better: 'lower' },
    ],
    maxPairs: 3,
    async prepare(environment) {
      const repositories = await findRepositories(environment, { isRuled });
      const upstream = await environment.upstream();
      return async pair => {
        const tag = await pushNew(repositoryAt(upstream));
        const taken = await inTurn(pair, async side => {
          let milliseconds = 0;
          const { requests, bytes } = await countTraffic(upstream, async () => {
            milliseconds = await pullTimed(repositories[side], tag, PARALLEL);
          });
          return { milliseconds, requests, mebibytes: bytes / 2 ** 20 };
        });
        return [pick(taken, 'milliseconds'), pick(taken, 'requests'), pick(taken, 'mebibytes')];
      };
    },
  };
}

export const IMAGES: readonly Benchmark[] = [
  oneClient({ isRuled: false }),
  oneClient({ isRuled: true }),
  oneClient({ isRuled: false, isLimit: true }),
  oneClient({ isRuled: true, isLimit: true }),
  manyClients({ isRuled: false }),
  manyClients({ isRuled: true }),
];

async function findRepositories(environment: Environment, how: How): Promise<Record<Side, string>> {
  const repositories = repositoriesOf(await environment.proxies());
  const veneer = how.isRuled ? await startRuledAt(environment, repositories.veneer) : repositories.veneer;
  const peer = how.isLimit ? await startBareAt(environment, how) : repositories.peer;
  return { veneer, peer };
}

async function startBareAt(environment: Environment, { isRuled }: How): Promise<string> {
  const file = fileURLToPath(new URL('bare-blobs.ts', import.meta.url));
  const { address } = await environment.upstream();
  const args = [file, environment.directory, `http://${address}`, ...(isRuled ? ['layers-first'] : [])];
  const bare = await startServer({ file: process.execPath, args });
  environment.stack.defer(() => bare.stop());
  return repositoryAt(bare);
}

async function startRuledAt(environment: Environment, repository: string): Promise<string> {
  const ruled = await startRuled(join(environment.directory, 'ruled'), await environment.upstream());
  environment.stack.defer(() => ruled.stop());
  return `http://${ruled.address}${new URL(repository).pathname}`;
}

/** Milliseconds to the last byte of the slowest of clients who have no connection yet and start together. */
async function pullTimed(repository: string, tag: string, clients = 1): Promise<number> {
  await settleDisk();
  await using stack = new AsyncDisposableStack();
  const pulls = Array.from({ length: clients }, () => stack.adopt(createClient(), ({ close }) => close()));
  // Awaited here: the clients close as soon as this function is left.
  return await time(() => Promise.all(pulls.map(client => pullAnyImage(client, repository, tag))));
}

const descriptorSchema = z.object({ digest: z.string(), size: z.int() });
const manifestSchema = z.object({ config: descriptorSchema, layers: z.array(descriptorSchema).min(LAYERS_MIB.length) });

/** Also one that a rule changed. Throws where a blob has not the size that the manifest says. */
async function pullAnyImage(client: Client, repository: string, tag: string): Promise<void> {
  const { body } = await client.send(`${repository}/manifests/${tag}`);
  const { config, layers } = manifestSchema.parse(JSON.parse(new TextDecoder().decode(body)));
  await forEach([config, ...layers], LAYERS_AT_ONCE, async ({ digest, size }) => {
    const bytes = await client.drain(`${repository}/blobs/${digest}`);
    if (bytes !== size) throw new Error(`${repository}: ${digest} has ${bytes} bytes`);
  });
}

/** Gives the tag of an image that no proxy has. */
async function pushNew(repository: string): Promise<string> {
  await using stack = new AsyncDisposableStack();
  const client = stack.adopt(createClient(), ({ close }) => close());
  const image = createImage();
  await pushImage(client, repository, image);
  return image.tag;
}

/** Its config is one that can be changed; its layers are random bytes, which nobody unpacks. */
function createImage(): RandomImage {
  const layers = LAYERS_MIB.map(mebibytes => createBlob(mebibytes * 2 ** 20));
  const rootfs = { type: 'layers', diff_ids: layers.map(({ digest }) => digest) };
  const bytes = encode({ os: 'linux', architecture: 'amd64', config: { Env: ['PATH=/bin'] }, rootfs });
  return createImageOf({ bytes, digest: digestOf(bytes) }, layers);
}
