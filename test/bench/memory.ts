// What a process takes of the machine's memory. Linux only.
import { readFile } from 'node:fs/promises';
import { median } from './comparison.ts';
import type { Server } from './processes.ts';

const SAMPLE_EVERY_MS = 250;

export interface Memory {
  /** The most, in MiB, that the process ever had. */
  readonly peak: number;
  /** What it had in the last quarter of the time, in percent of what it had in the first: medians. */
  readonly growth: number;
}

export async function readMemory(server: Server): Promise<number> {
  return readStatus(server, 'VmRSS');
}

export async function readPeakMemory(server: Server): Promise<number> {
  return readStatus(server, 'VmHWM');
}

/** While `work` lasts, which is to be some seconds. */
export async function sampleMemory(server: Server, work: () => Promise<unknown>): Promise<Memory> {
  const samples: number[] = [];
  const timer = setInterval(() => {
    readMemory(server).then(
      mebibytes => samples.push(mebibytes),
      () => {},
    );
  }, SAMPLE_EVERY_MS);
  await work().finally(() => clearInterval(timer));
  const quarter = Math.ceil(samples.length / 4);
  const growth = (100 * median(samples.slice(-quarter))) / median(samples.slice(0, quarter));
  return { peak: await readPeakMemory(server), growth };
}

async function readStatus({ pid }: Server, key: 'VmHWM' | 'VmRSS'): Promise<number> {
  const kilobytes = new RegExp(`${key}:\\s+(\\d+) kB`).exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1];
  if (kilobytes === undefined) throw new Error(`process ${pid} does not say its memory`);
  return Number(kilobytes) / 1024;
}
