// How a build that runs is shown.
import type { LogEntry } from '../../builds/progress.ts';

export interface ProgressView {
  show(entry: LogEntry): void;
  /** Nothing is shown after it. Of a build that failed it leaves the last lines that were printed. */
  close(end: { readonly isFailed: boolean }): void;
}
