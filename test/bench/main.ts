// `npm run bench`: Veneer beside the registry it pulls from, in one run on one machine. docs/benchmarks.md says what the rows mean.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { timeAugmentation, timeMod } from './augmentation.ts';
import { measureBlobs } from './blobs.ts';
import { compare, type Figures, inTurn } from './comparison.ts';
import { measureHosted } from './hosted.ts';
import { pushImage, pushRandomBlob } from './image.ts';
import { measureImages } from './images.ts';
import { readPeakMemory } from './memory.ts';
import { measureMixedLoad } from './mixed.ts';
import { findProgram, type Server, startServer } from './processes.ts';
import { countTransfers, measurePulls, settleDisk } from './pulls.ts';
import { type Pair, startPeer, startProxies, stopPair } from './registries.ts';
import { measureRequests, request } from './requests.ts';
import { measureStreams } from './streams.ts';
import { formatTable, type Row } from './table.ts';
import { measureTags } from './tags.ts';

const NAME = 'bench/app';
const LARGE_BYTES = 256 * 2 ** 20;
const COLD_BYTES = 128 * 2 ** 20;
const RUNS = 7;
const MANY_RUNS = 3;
const LIMIT_RUNS = 3;

/** What a row is measured on. */
interface Lab {
  readonly directory: string;
  readonly upstream: Server;
  /** Addresses of the repository: of the upstream itself, and through two proxies of it. */
  readonly direct: string;
  readonly proxied: Record<keyof Figures, string>;
  readonly veneer: Server;
}

try {
  for (const program of ['registry', 'regctl', 'wrk', 'curl']) findProgram(program);
  const rows = await bench();
  process.stdout.write(
    `${formatTable(rows)}\n\nOnly the ratio counts: the figures are of this machine and this run.\n`,
  );
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function bench(): Promise<readonly Row[]> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), 'veneer-bench-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  const upstream = stack.adopt(await startPeer({ directory: join(directory, 'peer') }), server => server.stop());
  const proxies = stack.adopt(await startProxies(join(directory, 'proxies'), upstream), stopPair);
  const direct = `http://${upstream.address}/v2/${NAME}`;
  const lab: Lab = { directory, upstream, direct, proxied: addressesOf(proxies), veneer: proxies.veneer };
  // Awaited here: the servers stop as soon as this function is left.
  return [
    ...(await measureWarm(lab)),
    ...(await measureCold(lab)),
    ...(await measureImages(lab)),
    ...(await measureMemory(lab)),
    ...(await measureStreams({ directory: join(directory, 'streams'), upstream, direct, addressesOf })),
    await measureChange(lab),
    ...(await measureHosted(directory)),
    ...(await measureTags(directory)),
    ...(await measureBlobs(directory)),
    ...(await measureMixedLoad(directory)),
  ];
}

async function measureWarm({ direct, proxied }: Lab): Promise<readonly Row[]> {
  const index = await pushImage(direct, '1');
  const blob = `blobs/${await pushRandomBlob(direct, LARGE_BYTES)}`;
  const urls = { veneer: proxied.veneer, peer: direct };
  await inTurn(side => measurePulls(`${urls[side]}/${blob}`));
  await settleDisk();
  return [
    {
      what: 'warm manifest by digest',
      unit: 'requests/s',
      ...(await inTurn(side => measureRequests(`${urls[side]}/manifests/${index}`))),
    },
    {
      what: 'the same, to a bare server of ready bytes',
      unit: 'requests/s',
      ...(await measureLimit(`${urls.veneer}/manifests/${index}`)),
    },
    {
      what: 'warm blob of 256 MiB, one client',
      unit: 'MiB/s',
      ...(await compare(RUNS, () => inTurn(side => measurePulls(`${urls[side]}/${blob}`)))),
    },
    {
      what: 'warm blob of 256 MiB, 8 clients',
      unit: 'MiB/s',
      ...(await compare(RUNS, () => inTurn(side => measurePulls(`${urls[side]}/${blob}`, 8)))),
    },
  ];
}

/** Veneer beside what Node and hono can do at most, a body of the same size. */
async function measureLimit(url: string): Promise<Figures> {
  const { byteLength } = await (await request(url)).bytes();
  const file = fileURLToPath(new URL('bare.ts', import.meta.url));
  const bare = await startServer({ file: process.execPath, args: [file, String(byteLength)] });
  try {
    const limit = `http://${bare.address}/v2/app/manifests/1`;
    return await compare(LIMIT_RUNS, async () => ({
      veneer: await measureRequests(url),
      peer: await measureRequests(limit),
    }));
  } finally {
    await bare.stop();
  }
}

async function measureCold({ upstream, direct, proxied }: Lab): Promise<readonly Row[]> {
  const pullCold = async (clients: number) => {
    const blob = `blobs/${await pushRandomBlob(direct, COLD_BYTES)}`;
    return inTurn(async side => {
      await settleDisk();
      return measurePulls(`${proxied[side]}/${blob}`, clients);
    });
  };
  const blob = await pushRandomBlob(direct, COLD_BYTES);
  return [
    { what: 'cold blob of 128 MiB, one client', unit: 'MiB/s', ...(await compare(RUNS, () => pullCold(1))) },
    { what: 'cold blob of 128 MiB, 20 clients', unit: 'MiB/s', ...(await compare(MANY_RUNS, () => pullCold(20))) },
    {
      what: 'upstream transfers for 20 clients',
      unit: 'transfers',
      ...(await inTurn(side =>
        countTransfers(upstream, blob, () => measurePulls(`${proxied[side]}/blobs/${blob}`, 20)),
      )),
    },
  ];
}

/** Of processes that have done nothing else. */
async function measureMemory({ directory, upstream, direct }: Lab): Promise<readonly Row[]> {
  const blob = `blobs/${await pushRandomBlob(direct, LARGE_BYTES)}`;
  const pullInto = async (data: string) => {
    const proxies = await startProxies(data, upstream);
    try {
      const addresses = addressesOf(proxies);
      return await inTurn(async side => {
        await measurePulls(`${addresses[side]}/${blob}`, 32);
        return readPeakMemory(proxies[side]);
      });
    } finally {
      await stopPair(proxies);
    }
  };
  const data = join(directory, 'memory');
  return [
    { what: 'peak memory, cold blob of 256 MiB, 32 clients', unit: 'MiB', ...(await pullInto(data)) },
    { what: 'peak memory, warm blob of 256 MiB, 32 clients', unit: 'MiB', ...(await pullInto(data)) },
  ];
}

async function measureChange({ directory, upstream, veneer }: Lab): Promise<Row> {
  const figures = await compare(RUNS, async run => ({
    veneer: await timeAugmentation({ registry: veneer.address, image: `lab/${NAME}:1`, value: `veneer-${run}` }),
    peer: await timeMod({ registry: upstream.address, image: `${NAME}:1`, value: `peer-${run}` }, directory),
  }));
  return { what: 'new environment and layer, three platforms', unit: 'ms', ...figures };
}

function addressesOf({ veneer, peer }: Pair): Record<keyof Figures, string> {
  return { veneer: `http://${veneer.address}/v2/lab/${NAME}`, peer: `http://${peer.address}/v2/${NAME}` };
}
