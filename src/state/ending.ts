// How the process before this one ended: that it ended by itself, by a fault of its own, is written down while it ends. One that was killed, or
// that the machine has lost, leaves nothing.
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Of Node, in the data directory: it writes one when V8 gives up, such as for want of memory. */
export const FATAL_REPORT = 'fatal-report.json';
const KEPT_REPORT = 'fatal-report.last.json';
const MARK = 'ended-by-itself';

/** To be called while the process ends by an error that nobody has caught. Never throws. */
export function noteEnding(directory: string): void {
  try {
    writeFileSync(join(directory, MARK), '', { mode: 0o600 });
  } catch {
    // A full disk: then it counts as killed.
  }
}

/** Whether the process before this one ended by itself, asked once; a report of that stays for people, the last one alone. */
export function takeEnding(directory: string): boolean {
  const [mark, report] = [join(directory, MARK), join(directory, FATAL_REPORT)];
  const hasReport = existsSync(report);
  const endedByItself = hasReport || existsSync(mark);
  if (hasReport) renameSync(report, join(directory, KEPT_REPORT));
  rmSync(mark, { force: true });
  return endedByItself;
}
