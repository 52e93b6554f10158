// The builds of this service, as submitted, watched and cancelled by other rooms.
import type { LogEntry } from './progress.ts';
import type { BuildRecord, PackagesRecord } from './record.ts';
import type { Spec } from './spec.ts';

export interface Builds {
  /**
   * Equal specs share one build: one in progress, or one that has succeeded and whose image still exists; otherwise a new one, durable when
   * this resolves. Throws QueueFull.
   */
  submit(spec: Spec, options: SubmitOptions): Promise<Submitted>;
  /** The result that `submit` would return, without starting or storing anything. */
  preview(spec: Spec, options: SubmitOptions): Promise<Submitted>;
  /** Undefined for an unknown id, or one whose record has expired. */
  find(id: string): Promise<BuildRecord | undefined>;
  /** Whether this caller also requested it, after the one in its record. */
  wasSubmittedBy(id: string, caller: string): Promise<boolean>;
  /** Newest first. */
  list(page: BuildsPage): Promise<readonly BuildRecord[]>;
  /**
   * Resolves with the record once the build has ended, or when the service stops; undefined for an unknown id. Rejects with the signal's
   * reason.
   */
  wait(id: string, signal: AbortSignal): Promise<BuildRecord | undefined>;
  /** Resolves with the record once the build has stopped; a build that has already ended does not change. Undefined for an unknown id. */
  cancel(id: string): Promise<BuildRecord | undefined>;
  /**
   * A new build of the same spec, unless one is in progress or has succeeded: then that one. Undefined for an unknown id. Throws QueueFull.
   */
  retry(id: string, options: SubmitOptions): Promise<BuildRecord | undefined>;
  /**
   * The log from its beginning; with `follow` it continues until the build has ended. Undefined if there is none. The caller reads it to
   * its end or returns it.
   */
  openLog(
    id: string,
    options: { readonly follow: boolean; readonly signal: AbortSignal },
  ): Promise<AsyncIterable<LogEntry> | undefined>;
  /** The current numbers of queued and running builds. */
  counts(): { readonly queued: number; readonly running: number };
  /** Removes expired records and logs, and the contexts that no record refers to. */
  sweep(): Promise<void>;
  /** Interrupts running builds without failing them: they are resumed when the service starts again. */
  close(): Promise<void>;
}

export interface SubmitOptions {
  /** The caller, for the fair queue and the record; empty: anonymous. */
  readonly caller: string;
  readonly priority?: number | undefined;
  /** See BuildRecord. */
  readonly isShared?: boolean | undefined;
  /** The packages of a new build, for its record. */
  readonly packages?: PackagesRecord | undefined;
}

export interface Submitted {
  readonly build: BuildRecord;
  /** Whether it is an earlier build that has succeeded. */
  readonly isCached: boolean;
}

export interface BuildsPage {
  readonly limit: number;
  /** Only those that are older than this one. */
  readonly after?: string | undefined;
  readonly status?: BuildRecord['status'] | undefined;
}

/** Too many builds are queued. */
export class QueueFull extends Error {
  override readonly name = 'QueueFull';
}
