// Many streams at once: what a process needs while it sends 200 bodies of 100 MB, of one blob that is arriving, or of many that
// arrive or are kept.
import { type Client, createClient } from './client.ts';
import type { Figures } from './comparison.ts';
import { pushRandomBlob } from './image.ts';
import { forEach } from './load.ts';
import { sampleMemory } from './memory.ts';
import type { Server } from './processes.ts';
import { settleDisk } from './pulls.ts';
import { type Pair, startProxies, stopPair } from './registries.ts';
import type { Row } from './table.ts';

export interface StreamsLab {
  /** For the data of the proxies. */
  readonly directory: string;
  readonly upstream: Server;
  /** The repository at the upstream. */
  readonly direct: string;
  readonly addressesOf: (proxies: Pair) => Record<keyof Figures, string>;
}

const STREAMS = 200;
const BYTES = 100 * 10 ** 6;
/** How many different blobs the streams are of, in the second row. */
const BLOBS = 10;

/** Of processes that have done nothing else. The digests are of blobs that no proxy has before the cold streams. */
export async function measureStreams(lab: StreamsLab): Promise<readonly Row[]> {
  const one = [await pushRandomBlob(lab.direct, BYTES)];
  const many: string[] = [];
  for (let at = 0; at < BLOBS; at += 1) many.push(await pushRandomBlob(lab.direct, BYTES));
  return [
    ...(await measure('one cold blob', one, lab)),
    ...(await measure(`${BLOBS} cold blobs`, many, lab)),
    ...(await measure(`${BLOBS} warm blobs`, many, lab)),
  ];
}

/** On data that the streams of the same blobs left, where there were some. */
async function measure(what: string, digests: readonly string[], lab: StreamsLab): Promise<readonly Row[]> {
  const veneer = await measureSide('veneer', digests, lab);
  const peer = await measureSide('peer', digests, lab);
  const streams = `${STREAMS} streams of 100 MB, ${what}`;
  return [
    { what: `peak memory, ${streams}`, unit: 'MiB', veneer: veneer.peak, peer: peer.peak },
    { what: `memory at the end to the beginning, ${streams}`, unit: '%', veneer: veneer.growth, peer: peer.growth },
    { what: `time of ${streams}`, unit: 's', veneer: veneer.seconds, peer: peer.seconds },
  ];
}

async function measureSide(side: keyof Figures, digests: readonly string[], lab: StreamsLab) {
  await using stack = new AsyncDisposableStack();
  const directory = `${lab.directory}-${digests.length}-${side}`;
  const proxies = stack.adopt(await startProxies(directory, lab.upstream), stopPair);
  const client = stack.adopt(createClient(), ({ close }) => close());
  const address = lab.addressesOf(proxies)[side];
  const urls = Array.from({ length: STREAMS }, (_, at) => `${address}/blobs/${digests[at % digests.length]}`);
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
