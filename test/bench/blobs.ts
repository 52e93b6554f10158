// Many small blobs in one repository: how fast they come in, and what it costs that they are there, at a start and in a collection.
import { join } from 'node:path';
import { type Client, createClient } from './client.ts';
import { timeCollection } from './collection.ts';
import { compare, type Figures, inTurn } from './comparison.ts';
import { forEach, time } from './load.ts';
import { settleDisk } from './pulls.ts';
import { createBlob, createImageOf, pushInOne, pushManifest, type RandomBlob } from './random-image.ts';
import { repositoryIn, startHost, startHosts, stopPair } from './registries.ts';
import { request } from './requests.ts';
import type { Row } from './table.ts';

/** A multiple of 1000. */
const BLOBS = Number(process.env.VENEER_BENCH_BLOBS ?? 20_000);
const BYTES = 1024;
const PARALLEL = 16;
const BLOBS_OF_IMAGE = 90;
const BLOBS_PER_IMAGE = 100;
const STARTS = 5;

export async function measureBlobs(directory: string): Promise<readonly Row[]> {
  const data = join(directory, 'blobs');
  const tenth = await pushToBoth(data, BLOBS / 10);
  const tenthCollected = await inTurn(side => timeCollection(data, side));
  const rest = await pushToBoth(data, BLOBS - BLOBS / 10);
  const collected = await inTurn(side => timeCollection(data, side));
  const started = await compare(STARTS, () => inTurn(side => timeStart(data, side)));
  const startedEmpty = await compare(STARTS, () => inTurn(side => timeStart(join(directory, 'empty'), side)));
  const count = BLOBS.toLocaleString('en').replaceAll(',', ' ');
  return [
    {
      what: `push of ${count} blobs of 1 KiB, 16 at once`,
      unit: 'blobs/s',
      ...combine(tenth, rest, (a, b) => BLOBS / (a + b)),
    },
    { what: `start with ${count} blobs`, unit: 'ms', ...started },
    { what: 'the same, to a start with nothing', unit: 'times', ...combine(started, startedEmpty, divide) },
    { what: `collection among ${count} blobs`, unit: 'ms', ...collected },
    { what: 'the same, to one among a tenth', unit: 'times', ...combine(collected, tenthCollected, divide) },
  ];
}

/** Seconds that each side takes for its blobs; the images that need most of them come later. */
async function pushToBoth(directory: string, count: number): Promise<Figures> {
  await using stack = new AsyncDisposableStack();
  const hosts = stack.adopt(await startHosts(directory), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  const repository = repositoryIn(hosts, 'bench/blobs');
  return await inTurn(async side => {
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

/** Milliseconds from the start of the process to its first answer. */
async function timeStart(directory: string, side: keyof Figures): Promise<number> {
  const start = performance.now();
  const server = await startHost(directory, side);
  await request(`http://${server.address}/v2/`);
  const milliseconds = performance.now() - start;
  await server.stop();
  return milliseconds;
}

function combine(a: Figures, b: Figures, work: (a: number, b: number) => number): Figures {
  return { veneer: work(a.veneer, b.veneer), peer: work(a.peer, b.peer) };
}

const divide = (a: number, b: number) => a / b;
