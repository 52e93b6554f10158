// Tracks which registries do not support HEAD: they are asked by GET, but not for longer than needed, since some limit GETs of tags.
import type { Memory } from '../../memory.ts';
import { type Clock, remainingMs } from '../waiting.ts';

/** What HEAD is used for: a registry may redirect blobs to a host that only supports GET, while supporting HEAD of manifests itself. */
export type HeadKind = 'manifests' | 'blobs';

/** The experience with one registry, from all callers. */
export interface HeadSupport {
  /** Whether HEAD is known to fail where GET succeeds. */
  isRefused(kind: HeadKind, repository: string): boolean;
  /** The statuses of a HEAD that are inconclusive. A 404 is trusted where HEAD has worked before. */
  doubted(kind: HeadKind, repository: string): readonly number[];
  worked(kind: HeadKind, repository: string): void;
  /** HEAD had this status, but GET succeeded. */
  refused(kind: HeadKind, repository: string, status: number): void;
}

interface Known {
  readonly isRefused: boolean;
  readonly since: Date;
}

const MEMORY_MS = 3600_000;
/** For all its repositories: it does not support the method. */
const UNKNOWN_METHOD: readonly number[] = [405, 501];
const DOUBTED: readonly number[] = [400, 403, 404, ...UNKNOWN_METHOD];
/** Not a repository name. */
const ALL = '*';

export function createHeadSupport(clock: Pick<Clock, 'now'>, memory: Memory): HeadSupport {
  const known = memory.openCache<Known>();

  function find(kind: HeadKind, repository: string): Known | undefined {
    const found = known.get(`${kind} ${repository}`);
    return found && remainingMs(clock, found.since, MEMORY_MS) > 0 ? found : undefined;
  }

  function note(kind: HeadKind, repository: string, isRefused: boolean): void {
    known.set(`${kind} ${repository}`, { isRefused, since: clock.now() });
  }

  return {
    isRefused: (kind, repository) => (find(kind, ALL) ?? find(kind, repository))?.isRefused ?? false,
    doubted: (kind, repository) => DOUBTED.filter(status => status !== 404 || find(kind, repository) === undefined),
    worked: (kind, repository) => note(kind, repository, false),
    refused: (kind, repository, status) => note(kind, UNKNOWN_METHOD.includes(status) ? ALL : repository, true),
  };
}
