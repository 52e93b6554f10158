// Watches large directories, so that they need not be walked every few seconds: where the system reports changes, a walk is only done after
// one, and periodically as a safety net. Changes by other machines, or behind another mount, are not reported.
import { type FSWatcher, watch } from 'node:fs';
import { realpath, stat, statfs } from 'node:fs/promises';
import type { Fingerprint, Folder, Walk, walkPath } from './fingerprint.ts';

export interface DirectoryWatcher {
  /** The current state, or that of the last walk where no change was reported since, or where the walk was recent relative to its cost. */
  fingerprint(path: string): Promise<Fingerprint>;
  close(): void;
}

export interface DirectoryWatcherDeps {
  readonly walk: (path: string) => ReturnType<typeof walkPath>;
  /** Called once for each path, with the reason why its changes are only found by walks. */
  readonly onUnwatched?: ((path: string, reason: string) => void) | undefined;
  /** Smaller directories are walked each time. Default: 1000. */
  readonly minEntries?: number | undefined;
  /** For all paths: a system may allow as few as 8192 per user. Default: 5000. */
  readonly maxFolders?: number | undefined;
  /** How often a watched directory is walked anyway. Default: 5 minutes. */
  readonly walkEveryMs?: number | undefined;
}

interface Watched {
  readonly watchers: Map<string, FSWatcher>;
  last: { readonly walk: Walk; readonly root: string; readonly at: number; readonly costMs: number } | undefined;
  /** Whether all folders of the last walk were already watched when it began. */
  isTrusted: boolean;
  isChanged: boolean;
  /** It cannot be watched. */
  isUnwatchable: boolean;
  usedAt: number;
}

/** Without a watcher, the interval between walks as a multiple of their duration. */
const WALK_INTERVAL_FACTOR = 50;
/** A path not asked for this long no longer belongs to a layer. */
const FORGET_AFTER_MS = 60_000;
/**
 * Numbers of statfs(2) for file systems that other machines may change: NFS, SMB (three of them), FUSE, 9P, Ceph, AFS, GFS2, OCFS2, Lustre,
 * vboxsf.
 */
const SHARED = new Set([
  0x6969, 0x517b, 0xfe534d42, 0xff534d42, 0x65735546, 0x01021997, 0x00c36400, 0x5346414f, 0x01161970, 0x7461636f,
  0x0bd00bd0, 0x786f4256,
]);

export function createDirectoryWatcher(deps: DirectoryWatcherDeps): DirectoryWatcher {
  const { walk, onUnwatched, minEntries = 1000, maxFolders = 5000, walkEveryMs = 300_000 } = deps;
  const paths = new Map<string, Watched>();
  let isClosed = false;

  function find(path: string): Watched {
    const known = paths.get(path);
    if (known) return known;
    const fresh = { watchers: new Map(), last: undefined, isTrusted: false, isChanged: false, isUnwatchable: false };
    const watched = { ...fresh, usedAt: 0 };
    paths.set(path, watched);
    return watched;
  }

  function forgetOthers(): void {
    for (const [path, watched] of paths) {
      if (performance.now() - watched.usedAt < FORGET_AFTER_MS) continue;
      unwatch(watched);
      paths.delete(path);
    }
  }

  function countFolders(): number {
    return [...paths.values()].reduce((sum, { watchers }) => sum + watchers.size, 0);
  }

  /** Whether all folders were watched already. */
  async function watchAll(path: string, watched: Watched, { resolved, folders }: Walk): Promise<boolean> {
    const { watchers } = watched;
    const keys = new Map(folders.map(folder => [keyOf(folder), folder]));
    for (const [key, watcher] of watchers) {
      if (keys.has(key)) continue;
      watcher.close();
      watchers.delete(key);
    }
    const missing = [...keys].filter(([key]) => !watchers.has(key));
    if (missing.length === 0) return true;
    const reason = (await findUnwatchableReason(resolved)) ?? watchFolders(watched, missing);
    if (reason !== undefined) {
      unwatch(watched);
      watched.isUnwatchable = true;
      onUnwatched?.(path, reason);
    }
    return false;
  }

  /** The reason why it cannot be watched. */
  function watchFolders(watched: Watched, folders: readonly (readonly [string, Folder])[]): string | undefined {
    if (countFolders() + folders.length > maxFolders) return `there are more than ${maxFolders} folders to watch`;
    const change = () => {
      watched.isChanged = true;
    };
    try {
      for (const [key, { path }] of folders) {
        if (isClosed) return undefined;
        const watcher = watch(path, { persistent: false }, change).on('error', change);
        watched.watchers.set(key, watcher);
      }
      return undefined;
    } catch (error) {
      // It was removed meanwhile: the next walk notices.
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      return error instanceof Error ? error.message : String(error);
    }
  }

  function isDue({ last, isTrusted, isChanged }: Watched, root: string): boolean {
    if (!last || last.root !== root || !last.walk.fingerprint.isSettled || last.walk.entries < minEntries) return true;
    const sinceMs = performance.now() - last.at;
    if (isTrusted) return isChanged || sinceMs > walkEveryMs;
    return sinceMs > Math.min(last.costMs * WALK_INTERVAL_FACTOR, walkEveryMs);
  }

  return {
    async fingerprint(path) {
      const watched = find(path);
      watched.usedAt = performance.now();
      forgetOthers();
      const root = await findRoot(path);
      if (watched.last && !isDue(watched, root)) return watched.last.walk.fingerprint;
      watched.isChanged = false;
      const begunAt = performance.now();
      const walked = await walk(path);
      const at = performance.now();
      const isLarge = walked.entries >= minEntries;
      watched.isTrusted = isLarge && !watched.isUnwatchable && (await watchAll(path, watched, walked));
      if (!isLarge) unwatch(watched);
      // The walk that found the folders to watch may have missed later changes: the next one sees them.
      const costMs = isLarge && !watched.isTrusted && !watched.isUnwatchable ? 0 : at - begunAt;
      watched.last = { walk: walked, root, at, costMs };
      return walked.fingerprint;
    },
    close() {
      isClosed = true;
      for (const watched of paths.values()) unwatch(watched);
      paths.clear();
    },
  };
}

function unwatch({ watchers }: Watched): void {
  for (const watcher of watchers.values()) watcher.close();
  watchers.clear();
}

/** A recreated folder of the same name is another one. */
function keyOf({ path, dev, ino }: Folder): string {
  return `${dev}:${ino}:${path}`;
}

/** The resolved path: a swapped link, or a new mount, leads elsewhere. */
async function findRoot(path: string): Promise<string> {
  try {
    const resolved = await realpath(path);
    const { dev, ino, mtimeMs, ctimeMs } = await stat(resolved);
    return [resolved, dev, ino, mtimeMs, ctimeMs].join();
  } catch (error) {
    return String(error);
  }
}

/** Why its changes would go unnoticed. */
async function findUnwatchableReason(resolved: string): Promise<string | undefined> {
  if (process.platform !== 'linux') return 'only Linux reports changes of files by directory';
  const { type } = await statfs(resolved);
  return SHARED.has(type) ? `others may change its file system (0x${type.toString(16)})` : undefined;
}
