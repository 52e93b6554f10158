// Many streams at once: what a process needs while it sends 200 bodies of 100 MB, of one blob that is arriving, or of many.
import type { Figures } from './comparison.ts';
import { pushRandomBlob } from './image.ts';
import { forEach } from './load.ts';
import type { Server } from './processes.ts';
import { readPeakMemory } from './pulls.ts';
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

/** Of processes that have done nothing else. The digests are of blobs that no proxy has. */
export async function measureStreams(lab: StreamsLab): Promise<readonly Row[]> {
  const one = [await pushRandomBlob(lab.direct, BYTES)];
  const many: string[] = [];
  for (let at = 0; at < BLOBS; at += 1) many.push(await pushRandomBlob(lab.direct, BYTES));
  return [
    await measure(`peak memory, ${STREAMS} streams of 100 MB, one cold blob`, one, lab),
    await measure(`peak memory, ${STREAMS} streams of 100 MB, ${BLOBS} cold blobs`, many, lab),
  ];
}

async function measure(what: string, digests: readonly string[], lab: StreamsLab): Promise<Row> {
  const figure = async (side: keyof Figures) => {
    const proxies = await startProxies(`${lab.directory}-${digests.length}-${side}`, lab.upstream);
    try {
      const address = lab.addressesOf(proxies)[side];
      const urls = Array.from({ length: STREAMS }, (_, at) => `${address}/blobs/${digests[at % digests.length]}`);
      await forEach(urls, STREAMS, drain);
      return await readPeakMemory(proxies[side]);
    } finally {
      await stopPair(proxies);
    }
  };
  return { what, unit: 'MiB', veneer: await figure('veneer'), peer: await figure('peer') };
}

/** Reads a body to its end and keeps nothing of it. Throws where it is not all of a blob. */
async function drain(url: string): Promise<void> {
  const response = await fetch(url);
  if (response.status !== 200 || !response.body) throw new Error(`${url}: status ${response.status}`);
  let received = 0;
  for await (const chunk of response.body) received += chunk.byteLength;
  if (received !== BYTES) throw new Error(`${url}: ${received} bytes`);
}
