// Which registries do not support HEAD: they are asked by GET for a while, but no longer than needed, as some limit how often a tag is got.
import type { Memory } from '../../memory.ts';
import { type Clock, remainingMs } from '../waiting.ts';

/** What HEAD is for: a registry may send a client for its blobs to where only GET is answered, and answer HEAD of manifests itself. */
export type HeadKind = 'manifests' | 'blobs';

/** What one registry has made of HEAD, whoever asked. */
export interface HeadSupport {
  /** Whether HEAD is known to be refused where GET is answered. */
  isRefused(kind: HeadKind, repository: string): boolean;
  /** The statuses of a HEAD that say nothing of what it asks for. A 404 is believed where HEAD has worked. */
  doubted(kind: HeadKind, repository: string): readonly number[];
  worked(kind: HeadKind, repository: string): void;
  /** HEAD had this status, and GET was answered. */
  refused(kind: HeadKind, repository: string, status: number): void;
}

interface Known {
  readonly isRefused: boolean;
  readonly since: Date;
}

const MEMORY_MS = 3600_000;
/** Of all its repositories alike: it does not know the method. */
const UNKNOWN_METHOD: readonly number[] = [405, 501];
const DOUBTED: readonly number[] = [400, 403, 404, ...UNKNOWN_METHOD];
/** No repository has this name. */
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
