// Many streams at once: what a process needs while it sends one blob to 32 clients, or 200 bodies of 100 MB, of one blob that is
// arriving, or of many that arrive or are kept. Always of processes that have done nothing else.
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { readSlowly } from '../support/mixed-load.ts';
import type { Benchmark, Environment } from './benchmark.ts';
import { type Client, createClient } from './client.ts';
import { inTurn, pick, type Side } from './comparison.ts';
import { repositoriesOf, repositoryAt } from './environment.ts';
import { pushRandomBlob } from './image.ts';
import { forEach } from './load.ts';
import { readPeakMemory, sampleMemory } from './memory.ts';
import { measurePulls, settleDisk } from './pulls.ts';
import { startProxies, stopPair } from './registries.ts';

const ONE_BYTES = 256 * 2 ** 20;
const CLIENTS = 32;
const STREAMS = 200;
const BYTES = 100 * 10 ** 6;
/** How many different blobs the streams are of, where it is not one. */
const BLOBS = 10;

const oneBlob: Benchmark = {
  rows: [
    {
      name: 'memory-cold-32',
      what: `peak memory, cold blob of 256 MiB, ${CLIENTS} clients`,
      unit: 'MiB',
      better: 'lower',
    },
    {
      name: 'memory-warm-32',
      what: `peak memory, warm blob of 256 MiB, ${CLIENTS} clients`,
      unit: 'MiB',
      better: 'lower',
    },
  ],
  maxPairs: 3,
  async prepare(environment) {
    const blob = `blobs/${await pushRandomBlob(repositoryAt(await environment.upstream()), ONE_BYTES)}`;
    return async pair => {
      const data = join(environment.directory, String(pair));
      return [await measurePeak(environment, data, blob), await measurePeak(environment, data, blob)];
    };
  },
};

/** On data that the streams of the same blobs left, where there were some. */
async function measurePeak(environment: Environment, data: string, blob: string) {
  await using stack = new AsyncDisposableStack();
  const proxies = stack.adopt(await startProxies(data, await environment.upstream()), stopPair);
  const repositories = repositoriesOf(proxies);
  return await inTurn(0, async side => {
    await measurePulls(proxies[side], `${repositories[side]}/${blob}`, CLIENTS);
    return readPeakMemory(proxies[side]);
  });
}

/** `count` blobs that the proxies do not have, and then once more, where that is asked for. */
function manyStreams(count: number, { andWarm }: { readonly andWarm: boolean }): Benchmark {
  const blobs = (kind: string) => (count === 1 ? `one ${kind} blob` : `${count} ${kind} blobs`);
  return {
    rows: [
      ...describeStreams(`streams-cold-${count}`, blobs('cold')),
      ...(andWarm ? describeStreams(`streams-warm-${count}`, blobs('warm')) : []),
    ],
    maxPairs: 1,
    async prepare(environment) {
      const upstream = repositoryAt(await environment.upstream());
      const digests: string[] = [];
      for (let at = 0; at < count; at += 1) digests.push(await pushRandomBlob(upstream, BYTES));
      return async pair => {
        const take = async () => {
          const taken = await inTurn(pair, side => measureSide(environment, side, digests));
          return [pick(taken, 'peak'), pick(taken, 'growth'), pick(taken, 'seconds')];
        };
        return [...(await take()), ...(andWarm ? await take() : [])];
      };
    },
  };
}

const READERS = 500;
const READ_BYTES_PER_SECOND = 32 * 1024;
const READ_MS = 20_000;
/** All of them have connected by then, and every socket is full. */
const CONNECT_MS = 5_000;
const ASK_EVERY_MS = 20;

/** Whether readers that take minutes for a blob hold up another client, whose connection is open. */
const slowReaders: Benchmark = {
  rows: [
    {
      name: 'slow-readers-pause',
      what: `longest answer to another client, ${READERS} slow readers of one blob`,
      unit: 'ms',
      better: 'lower',
    },
    {
      name: 'slow-readers-memory',
      what: `peak memory, ${READERS} slow readers of one blob`,
      unit: 'MiB',
      better: 'lower',
    },
  ],
  maxPairs: 3,
  async prepare(environment) {
    const blob = `blobs/${await pushRandomBlob(repositoryAt(await environment.upstream()), ONE_BYTES)}`;
    return async pair => {
      const taken = await inTurn(pair, async side => {
        await using stack = new AsyncDisposableStack();
        const proxies = stack.adopt(
          await startProxies(join(environment.directory, String(pair), side), await environment.upstream()),
          stopPair,
        );
        const client = stack.adopt(createClient(), ({ close }) => close());
        const url = `${repositoriesOf(proxies)[side]}/${blob}`;
        await client.drain(url);
        const pause = await measurePause(client, url);
        return { pause, memory: await readPeakMemory(proxies[side]) };
      });
      return [pick(taken, 'pause'), pick(taken, 'memory')];
    };
  },
};

/** In milliseconds. */
async function measurePause(client: Client, url: string): Promise<number> {
  const over = new AbortController();
  const readers = readSlowly(url, READERS, { bytesPerSecond: READ_BYTES_PER_SECOND, signal: over.signal });
  await setTimeout(CONNECT_MS);
  let longest = 0;
  for (const end = performance.now() + READ_MS; performance.now() < end; await setTimeout(ASK_EVERY_MS)) {
    const askedAt = performance.now();
    await client.drain(new URL('/v2/', url).href);
    longest = Math.max(longest, performance.now() - askedAt);
  }
  over.abort();
  const cut = await readers;
  if (cut > 0) throw new Error(`${url}: ${cut} slow readers were cut`);
  return longest;
}

export const STREAMING: readonly Benchmark[] = [
  oneBlob,
  slowReaders,
  manyStreams(1, { andWarm: false }),
  manyStreams(BLOBS, { andWarm: true }),
];

function describeStreams(name: string, blobs: string) {
  const streams = `${STREAMS} streams of 100 MB, ${blobs}`;
  const better = 'lower' as const;
  return [
    { name: `${name}-memory`, what: `peak memory, ${streams}`, unit: 'MiB', better },
    { name: `${name}-growth`, what: `memory at the end to the beginning, ${streams}`, unit: '%', better },
    { name: `${name}-time`, what: `time of ${streams}`, unit: 's', better },
  ];
}

async function measureSide(environment: Environment, side: Side, digests: readonly string[]) {
  await using stack = new AsyncDisposableStack();
  const directory = join(environment.directory, side);
  const proxies = stack.adopt(await startProxies(directory, await environment.upstream()), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  const repository = repositoriesOf(proxies)[side];
  const urls = Array.from({ length: STREAMS }, (_, at) => `${repository}/blobs/${digests[at % digests.length]}`);
  await settleDisk();
  const start = performance.now();
  const memory = await sampleMemory(proxies[side], () => forEach(urls, STREAMS, url => drain(client, url)));
  return { ...memory, seconds: (performance.now() - start) / 1000 };
}

/** Throws where it is not all of a blob. */
async function drain(client: Client, url: string): Promise<void> {
  const bytes = await client.drain(url);
  if (bytes !== BYTES) throw new Error(`${url}: ${bytes} bytes`);
}
