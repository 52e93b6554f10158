// What a process takes of the machine's processors. It differs less between runs than time does, also where other programs are busy. Linux only.
import { readFile } from 'node:fs/promises';
import type { Server } from './processes.ts';

/** `getconf CLK_TCK` of every Linux that Node runs on. */
const MS_A_TICK = 10;

/** The same, while `work` lasts. */
export async function timeProcessor<T>(
  server: Server,
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly milliseconds: number }> {
  const before = await readProcessorTime(server);
  const result = await work();
  return { result, milliseconds: (await readProcessorTime(server)) - before };
}

/** In milliseconds, since it was started, of the server and of the processes that it has started. */
export async function readProcessorTime({ pid }: Server): Promise<number> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  const ofChildren = children.split(' ').filter(Boolean).map(Number).map(readChildTime);
  return (await Promise.all([readOwnTime(pid), ...ofChildren])).reduce((sum, milliseconds) => sum + milliseconds, 0);
}

/** 0 for one that has ended meanwhile. */
async function readChildTime(pid: number): Promise<number> {
  try {
    return await readOwnTime(pid);
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return 0;
    throw error;
  }
}

async function readOwnTime(pid: number): Promise<number> {
  // What precedes is the name of the program, which may have spaces; utime is the 14th field and stime the 15th.
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
  const ticks = Number(fields[11]) + Number(fields[12]);
  if (Number.isNaN(ticks)) throw new Error(`process ${pid} does not say its processor time`);
  return ticks * MS_A_TICK;
}
