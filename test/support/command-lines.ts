// What /proc shows everyone: the command lines of all processes.
import { readdirSync, readFileSync } from 'node:fs';

/** Of all processes of this machine that match, each argument after a space. */
export function listCommandLines(pattern: RegExp): readonly string[] {
  const ids = readdirSync('/proc').filter(name => /^\d+$/.test(name));
  return ids.map(readCommandLine).filter(line => pattern.test(line));
}

function readCommandLine(id: string): string {
  try {
    return readFileSync(`/proc/${id}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
  } catch {
    // It has ended.
    return '';
  }
}
