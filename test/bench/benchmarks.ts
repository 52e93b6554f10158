// The rows of the table. A new one: a benchmark in a file of its own or beside its like, its line here, and one in docs/benchmarks.md.
import { AUGMENTATION } from './augmentation.ts';
import type { Benchmark } from './benchmark.ts';
import { MANY_BLOBS, START, START_WITH } from './blobs.ts';
import { REMOVAL } from './collection.ts';
import { FLEET } from './fleet.ts';
import { HOSTED } from './hosted.ts';
import { IMAGES } from './images.ts';
import { LOOP_DELAY } from './loop.ts';
import { MIXED_LOAD } from './mixed.ts';
import { OBSERVING } from './observing.ts';
import { PROXIED } from './proxied.ts';
import { STREAMING } from './streams.ts';
import { TAG_LISTS } from './tags.ts';
import { WORKERS } from './workers.ts';

/** In the order in which they are measured and reported. */
export const BENCHMARKS: readonly Benchmark[] = [
  ...PROXIED,
  ...OBSERVING,
  ...FLEET,
  ...WORKERS,
  ...IMAGES,
  ...STREAMING,
  AUGMENTATION,
  ...HOSTED,
  LOOP_DELAY,
  ...TAG_LISTS,
  START,
  ...START_WITH,
  MANY_BLOBS,
  REMOVAL,
  MIXED_LOAD,
];
