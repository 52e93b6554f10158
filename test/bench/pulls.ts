// Pulls of one blob by processes of curl, and what they cost the server and its upstream.
import { readFile } from 'node:fs/promises';
import { findProgram, run, type Server } from './processes.ts';

const SETTLE_MS = 300;

/** MiB a second that `clients`, who start together, get together in the time of the slowest. */
export async function measurePulls(url: string, clients = 1): Promise<number> {
  const pulls = await Promise.all(Array.from({ length: clients }, () => pullBlob(url)));
  const bytes = pulls.reduce((sum, { size }) => sum + size, 0);
  return bytes / 2 ** 20 / Math.max(...pulls.map(({ seconds }) => seconds));
}

/** Writes what earlier pulls left to the disk, or the next one would wait for it. */
export async function settleDisk(): Promise<void> {
  await run({ file: 'sync', args: [] });
}

/** How often the upstream sent the blob during `work`, by its log. */
export async function countTransfers(upstream: Server, digest: string, work: () => Promise<unknown>): Promise<number> {
  const stop = upstream.capture();
  await work();
  await new Promise(resolve => setTimeout(resolve, SETTLE_MS));
  const lines = stop().split('\n');
  return lines.filter(line => line.includes('http.request.method=GET') && line.includes(`/blobs/${digest}`)).length;
}

/** The most memory, in MiB, that the process ever had. Linux only. */
export async function readPeakMemory({ pid }: Server): Promise<number> {
  const kilobytes = /VmHWM:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kilobytes === undefined) throw new Error(`process ${pid} does not say its memory`);
  return Number(kilobytes) / 1024;
}

async function pullBlob(url: string): Promise<{ readonly size: number; readonly seconds: number }> {
  const format = '%{http_code} %{size_download} %{time_total}';
  const output = await run({ file: findProgram('curl'), args: ['-sSf', '-o', '/dev/null', '-w', format, url] });
  const [status, size, seconds] = output.split(' ').map(Number);
  if (status !== 200 || size === undefined || seconds === undefined) throw new Error(`${url}: ${output}`);
  return { size, seconds };
}
