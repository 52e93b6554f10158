// The collection of what nobody needs any more, by a process of its own, on data that no server has open.
import { join } from 'node:path';
import { z } from 'zod';
import type { Side } from './comparison.ts';
import { time } from './load.ts';
import { findProgram, run } from './processes.ts';
import { CONFIGS, directoriesIn, VENEER } from './registries.ts';

/** In milliseconds, on the data of one side of the pair in `directory`. */
export async function timeCollection(directory: string, side: Side): Promise<number> {
  const collect = { veneer: collectVeneer, peer: collectPeer }[side];
  return collect(join(directoriesIn(directory)[side], CONFIGS[side]));
}

const reportSchema = z.object({
  startedAt: z.coerce.date(),
  finishedAt: z.coerce.date(),
  removed: z.object({ blobs: z.int().positive() }),
});

/** By its report: the start of the process, which costs the same with any data, would hide how the rest grows. */
async function collectVeneer(config: string): Promise<number> {
  const report = await run({ file: process.execPath, args: [VENEER, 'gc', '--json', '--config', config] });
  const { startedAt, finishedAt } = reportSchema.parse(JSON.parse(report));
  return finishedAt.getTime() - startedAt.getTime();
}

async function collectPeer(config: string): Promise<number> {
  const args = ['garbage-collect', '--quiet', config];
  return time(() => run({ file: findProgram('registry'), args, env: { OTEL_TRACES_EXPORTER: 'none' } }));
}
