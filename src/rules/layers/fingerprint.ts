// Fingerprints of files and directories: detect a change without reading their content.
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import {
  InvalidLayerDirectory,
  type LayerDirectoryLimits,
  type LayerFile,
  listLayer,
} from '../../builds/context/layer-directory.ts';

export interface Fingerprint {
  readonly value: string;
  /** Whether the last change is old enough that a later one would have another timestamp. */
  readonly isSettled: boolean;
}

/** Some file systems have timestamps as coarse as this. */
const COARSE_MS = 2000;

/** What was found while computing a fingerprint. */
export interface Walk {
  readonly fingerprint: Fingerprint;
  /** The resolved path; the path itself where nothing exists. */
  readonly resolved: string;
  /** The directory and those below it; none for a file. */
  readonly folders: readonly Folder[];
  readonly entries: number;
}

export interface Folder {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
}

/** Unreadable files are noted in the fingerprint: computing one never fails. */
export async function takeFingerprint(path: string, now: Date, limits?: LayerDirectoryLimits): Promise<Fingerprint> {
  return (await walkPath(path, now, limits)).fingerprint;
}

export async function walkPath(path: string, now: Date, limits?: LayerDirectoryLimits): Promise<Walk> {
  try {
    const resolved = await realpath(path);
    const stats = await stat(resolved);
    const below = stats.isDirectory() ? await listLayer(resolved, limits) : [];
    const files = [{ name: '', path: resolved, stats }, ...below];
    const folders = files
      .filter(file => file.stats.isDirectory())
      .map(file => ({ path: file.path, dev: file.stats.dev, ino: file.stats.ino }));
    return { fingerprint: await fingerprintOf(resolved, files, now), resolved, folders, entries: files.length };
  } catch (error) {
    return { fingerprint: { value: reasonOf(error), isSettled: true }, resolved: path, folders: [], entries: 0 };
  }
}

/** Whether they are certain to be of the same state. */
export function isUnchanged(before: Fingerprint | undefined, after: Fingerprint): boolean {
  return before?.value === after.value && before.isSettled;
}

const FILES_PER_STEP = 1000;

async function fingerprintOf(resolved: string, files: readonly LayerFile[], now: Date): Promise<Fingerprint> {
  const hash = createHash('sha256').update(resolved);
  let isSettled = true;
  for (const [at, { name, stats, target }] of files.entries()) {
    if (at % FILES_PER_STEP === FILES_PER_STEP - 1) await setImmediate();
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

// Files that are being written right now: a half-done change is not a state. They are retried later, but not indefinitely.

interface Debounce {
  /** Whether a change, as found now, should be left for later. */
  mustWait(changed: readonly Fingerprint[]): boolean;
}

/** A file that is written continuously is taken as it is. */
const PATIENCE_MS = 30_000;

export function createDebounce(now: () => Date): Debounce {
  let since: number | undefined;
  return {
    mustWait(changed) {
      if (changed.every(({ isSettled }) => isSettled)) {
        since = undefined;
        return false;
      }
      since ??= now().getTime();
      return Math.abs(now().getTime() - since) < PATIENCE_MS;
    },
  };
}
