// A log as plain text: one line for each entry, made to be searched. Its form is stable.
//
//   2030-01-02T03:04:05.678Z linux/arm64 [2/3] RUN make: started
//   2030-01-02T03:04:05.678Z linux/arm64 [2/3] RUN make | cc -o main main.c
//   2030-01-02T03:04:05.678Z note: tried again in 2 s
import { stripVTControlCharacters } from 'node:util';
import type { LogEntry } from '../progress.ts';

/** Without a line break; what could move a terminal's cursor is taken out. */
export function formatLogEntry(entry: LogEntry): string {
  const where = [entry.at, ...placeOf(entry)].join(' ');
  return stripVTControlCharacters(`${where}${whatOf(entry)}`)
    .replaceAll(/(?!\t)\p{Cc}/gu, ' ')
    .trimEnd();
}

/** A step's name may have the platform already. */
function placeOf({ platform, step }: LogEntry): readonly string[] {
  const isNamed = platform !== undefined && step?.includes(platform);
  return [isNamed ? undefined : platform, step].filter(part => part !== undefined);
}

function whatOf({ kind, state, progress, text }: LogEntry): string {
  switch (kind) {
    case 'output':
      return ` | ${text ?? ''}`;
    case 'note':
      return ` note: ${text ?? ''}`;
    case 'step': {
      const done = progress && [progress.current, progress.total].filter(count => count !== undefined).join('/');
      return `: ${[state, done, text].filter(part => part !== undefined).join(' ')}`;
    }
  }
}
