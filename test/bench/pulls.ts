// Pulls of one blob by processes of curl, and what they cost the server and its upstream.
import { findProgram, run, type Server } from './processes.ts';
import { timeProcessor } from './processor.ts';

const SETTLE_MS = 300;

export interface Pulls {
  /** MiB a second that all clients get together in the time of the slowest. */
  readonly rate: number;
  /** Milliseconds of processor time that the server takes for each GiB. */
  readonly processor: number;
}

/** By `clients` that start together. */
export async function measurePulls(server: Server, url: string, clients = 1): Promise<Pulls> {
  const { result, milliseconds } = await timeProcessor(server, () =>
    Promise.all(Array.from({ length: clients }, () => pullBlob(url))),
  );
  const bytes = result.reduce((sum, { size }) => sum + size, 0);
  const seconds = Math.max(...result.map(pull => pull.seconds));
  return { rate: bytes / 2 ** 20 / seconds, processor: milliseconds / (bytes / 2 ** 30) };
}

/** Writes what earlier pulls left to the disk, or the next one would wait for it. */
export async function settleDisk(): Promise<void> {
  await run({ file: 'sync', args: [] });
}

/** What an upstream was asked for, and what it sent. */
export interface Traffic {
  readonly requests: number;
  readonly bytes: number;
}

/** How often the upstream sent the blob during `work`, by its log. */
export async function countTransfers(upstream: Server, digest: string, work: () => Promise<unknown>): Promise<number> {
  const lines = await logDuring(upstream, work);
  return lines.filter(line => line.includes('http.request.method=GET') && line.includes(`/blobs/${digest}`)).length;
}

/** By the upstream's log, which tells no headers. */
export async function countTraffic(upstream: Server, work: () => Promise<unknown>): Promise<Traffic> {
  const written = (await logDuring(upstream, work)).flatMap(line => {
    const bytes = /http\.response\.written=(\d+)/.exec(line)?.[1];
    return bytes === undefined ? [] : [Number(bytes)];
  });
  return { requests: written.length, bytes: written.reduce((sum, bytes) => sum + bytes, 0) };
}

async function logDuring(upstream: Server, work: () => Promise<unknown>): Promise<readonly string[]> {
  const stop = upstream.capture();
  await work();
  await new Promise(resolve => setTimeout(resolve, SETTLE_MS));
  return stop().split('\n');
}

async function pullBlob(url: string): Promise<{ readonly size: number; readonly seconds: number }> {
  const format = '%{http_code} %{size_download} %{time_total}';
  const output = await run({ file: findProgram('curl'), args: ['-sSf', '-o', '/dev/null', '-w', format, url] });
  const [status, size, seconds] = output.split(' ').map(Number);
  if (status !== 200 || size === undefined || seconds === undefined) throw new Error(`${url}: ${output}`);
  return { size, seconds };
}
