// Pulls of whole images through proxies, as clients do them: the manifest, then its config and its layers, three at a time.
import { join } from 'node:path';
import { z } from 'zod';
import { type Client, createClient } from './client.ts';
import { compare, type Figures, inTurn } from './comparison.ts';
import { digestOf, encode } from './image.ts';
import { forEach, time } from './load.ts';
import type { Server } from './processes.ts';
import { countTraffic, settleDisk, type Traffic } from './pulls.ts';
import { createBlob, createImageOf, pushImage, type RandomImage } from './random-image.ts';
import { startRuled } from './registries.ts';
import type { Row } from './table.ts';

export interface ImagesLab {
  readonly directory: string;
  readonly upstream: Server;
  /** Addresses of the repository: of the upstream itself, and through two proxies of it. */
  readonly direct: string;
  readonly proxied: Record<keyof Figures, string>;
}

const LAYERS_MIB = [32, 16, 8, 4, 4];
const LAYERS_AT_ONCE = 3;
const PARALLEL = 20;
const RUNS = 7;
const MANY_RUNS = 3;

export async function measureImages(lab: ImagesLab): Promise<readonly Row[]> {
  await using stack = new AsyncDisposableStack();
  const ruled = stack.adopt(await startRuled(join(lab.directory, 'ruled'), lab.upstream), server => server.stop());
  const plain = new URL(lab.proxied.veneer);
  const throughRule = { ...lab.proxied, veneer: `http://${ruled.address}${plain.pathname}` };
  return [
    ...(await measureOne('', lab.direct, lab.proxied)),
    ...(await measureOne(' through a rule', lab.direct, throughRule)),
    ...(await measureParallel('', lab, lab.proxied)),
    ...(await measureParallel(' through a rule', lab, throughRule)),
  ];
}

type Repositories = Record<keyof Figures, string>;

/** The last image that came cold is the one that is pulled warm. */
async function measureOne(how: string, direct: string, from: Repositories): Promise<readonly Row[]> {
  let tag = '';
  const pull = (side: keyof Figures) => pullTimed(from[side], tag);
  const cold = await compare(RUNS, async () => {
    tag = await pushNew(direct);
    return inTurn(pull);
  });
  const warm = await compare(RUNS, () => inTurn(pull));
  return [
    { what: `cold pull of an image of 64 MiB${how}, one client`, unit: 'ms', ...cold },
    { what: `warm pull of an image of 64 MiB${how}, one client`, unit: 'ms', ...warm },
  ];
}

async function measureParallel(
  how: string,
  { upstream, direct }: ImagesLab,
  from: Repositories,
): Promise<readonly Row[]> {
  const traffic: Record<keyof Figures, Traffic[]> = { veneer: [], peer: [] };
  const times = await compare(MANY_RUNS, async () => {
    const tag = await pushNew(direct);
    return inTurn(async side => {
      let milliseconds = 0;
      const pullAll = async () => {
        milliseconds = await pullTimed(from[side], tag, PARALLEL);
      };
      traffic[side].push(await countTraffic(upstream, pullAll));
      return milliseconds;
    });
  });
  const most = (key: keyof Traffic) =>
    inTurn(async side => Math.max(...traffic[side].map(({ [key]: figure }) => figure)));
  const { veneer, peer } = await most('bytes');
  const what = `${PARALLEL} parallel cold pulls of an image of 64 MiB${how}`;
  return [
    { what, unit: 'ms', ...times },
    { what: `upstream requests for ${what}`, unit: 'requests', ...(await most('requests')) },
    { what: `upstream bytes for ${what}`, unit: 'MiB', veneer: veneer / 2 ** 20, peer: peer / 2 ** 20 },
  ];
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
