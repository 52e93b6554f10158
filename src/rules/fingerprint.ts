// What tells that a file or directory is another one than before, without a look at its bytes. Nothing is asked of the system's watchers: they
// do not see what happens behind a link that is swapped, or on another machine that shares the directory.
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import {
  InvalidLayerDirectory,
  type LayerDirectoryLimits,
  type LayerFile,
  listLayer,
} from '../build/context/layer-directory.ts';

export interface Fingerprint {
  readonly value: string;
  /** Whether the last change is long enough ago that another one since the look would show. */
  readonly isSettled: boolean;
}

/** Times of files are as coarse as this on some file systems. */
const COARSE_MS = 2000;

/** Of what cannot be read it says so: no fingerprint fails. */
export async function takeFingerprint(path: string, now: Date, limits?: LayerDirectoryLimits): Promise<Fingerprint> {
  try {
    const place = await realpath(path);
    const stats = await stat(place);
    const files = stats.isDirectory() ? await listLayer(place, limits) : [];
    return fingerprintOf(place, [{ name: '', path: place, stats }, ...files], now);
  } catch (error) {
    return { value: reasonOf(error), isSettled: true };
  }
}

/** Whether what they are of is surely the same. */
export function isUnchanged(before: Fingerprint | undefined, after: Fingerprint): boolean {
  return before?.value === after.value && before.isSettled;
}

function fingerprintOf(place: string, files: readonly LayerFile[], now: Date): Fingerprint {
  const hash = createHash('sha256').update(place);
  let isSettled = true;
  for (const { name, stats, target } of files) {
    hash.update(`${JSON.stringify([name, target, ...factsOf(stats)])}\n`);
    if (Math.abs(now.getTime() - stats.ctimeMs) < COARSE_MS) isSettled = false;
  }
  return { value: hash.digest('hex'), isSettled };
}

function factsOf({ dev, ino, mode, size, mtimeMs, ctimeMs }: Stats): readonly number[] {
  return [dev, ino, mode, size, mtimeMs, ctimeMs];
}

function reasonOf(error: unknown): string {
  if (error instanceof InvalidLayerDirectory) return error.message;
  return error instanceof Error && 'code' in error ? String(error.code) : String(error);
}
