// Builds: asked for, queued, run, kept. The interface that http and proxy work with.

import type { LogEntry } from './progress.ts';
import type { BuildRecord } from './record.ts';
import type { Spec } from './spec.ts';

export interface Builds {
  /**
   * One build for equal specs: that which is under way, or has succeeded and whose image is still there, else a new one; durable when it
   * resolves. Throws QueueFull.
   */
  submit(spec: Spec, options: SubmitOptions): Promise<Submitted>;
  /** What `submit` would answer. Nothing is started or kept. */
  preview(spec: Spec, options: SubmitOptions): Promise<Submitted>;
  /** Undefined for an id that is unknown, or whose record was let go. */
  find(id: string): Promise<BuildRecord | undefined>;
  /** The newest first. */
  list(page: BuildsPage): Promise<readonly BuildRecord[]>;
  /**
   * Resolves when the build has ended, at once for one that has, or as it is when the service stops; undefined for an unknown one. Rejects
   * with the signal's reason.
   */
  wait(id: string, signal: AbortSignal): Promise<BuildRecord | undefined>;
  /** Resolves when it has stopped. The record as it is then: one that had ended before stays as it was. Undefined for an unknown one. */
  cancel(id: string): Promise<BuildRecord | undefined>;
  /** A new build of the same spec, unless one is under way or has succeeded: then that. Undefined for an unknown id. Throws QueueFull. */
  retry(id: string, options: SubmitOptions): Promise<BuildRecord | undefined>;
  /**
   * The log from its beginning; with `follow` it goes on until the build has ended. Undefined where none is kept. The caller reads it to
   * its end or returns it.
   */
  openLog(
    id: string,
    options: { readonly follow: boolean; readonly signal: AbortSignal },
  ): Promise<AsyncIterable<LogEntry> | undefined>;
  /** Removes records and logs whose retention has ended, and the contexts that no record needs any more. */
  sweep(): Promise<void>;
  /** Stops what runs, without a failure: it goes on when the service starts again. */
  close(): Promise<void>;
}

export interface SubmitOptions {
  /** Who asks, for fairness and the record; empty: anonymous. */
  readonly caller: string;
  readonly priority?: number | undefined;
}

export interface Submitted {
  readonly build: BuildRecord;
  /** Whether it had succeeded before. */
  readonly isCached: boolean;
}

export interface BuildsPage {
  readonly limit: number;
  /** Only those that are older than this one. */
  readonly after?: string | undefined;
  readonly status?: BuildRecord['status'] | undefined;
}

/** Too many builds wait. */
export class QueueFull extends Error {
  override readonly name = 'QueueFull';
}
