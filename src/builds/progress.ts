// The progress of a build: one entry is one line of its stored log.
import { stripVTControlCharacters } from 'node:util';
import { z } from 'zod';

export const logEntrySchema = z.object({
  at: z.iso.datetime(),
  /** `step`: a step starts or ends. `output`: a line that a step printed. `note`: a message of Veneer's own. */
  kind: z.enum(['step', 'output', 'note']),
  /** Normalised; absent if it concerns all of them. */
  platform: z.string().optional(),
  /** The step's name, such as `[linux/arm64 2/3] RUN make`. */
  step: z.string().optional(),
  /** The state of the step. */
  state: z.enum(['started', 'done', 'cached', 'failed']).optional(),
  /** One line, without its line break. */
  text: z.string().optional(),
  /** Bytes or parts done, for a step that counts them. */
  progress: z.object({ current: z.number(), total: z.number().optional() }).optional(),
});

export type LogEntry = z.infer<typeof logEntrySchema>;

/** An entry without its time. */
export type ProgressEvent = Omit<LogEntry, 'at'>;

/** Must not throw. Events may contain secrets: the receiver redacts them. */
export type Report = (event: ProgressEvent) => void;

/**
 * Resumes reporting after a restart of the service: the builder repeats its output from the beginning, and entries that the log already has
 * after the note with this text are skipped.
 */
export type Resume = (note: string) => Promise<Report>;

/**
 * One line of text without a line break, easy to search, with control characters removed. The format is stable:
 *
 *   2030-01-02T03:04:05.678Z linux/arm64 [2/3] RUN make: started
 *   2030-01-02T03:04:05.678Z linux/arm64 [2/3] RUN make | cc -o main main.c
 *   2030-01-02T03:04:05.678Z note: no answer: retry 1 of 2 in 2 s
 */
export function formatLogEntry(entry: LogEntry): string {
  const where = [entry.at, ...placeOf(entry)].join(' ');
  return stripVTControlCharacters(`${where}${whatOf(entry)}`)
    .replaceAll(/(?!\t)\p{Cc}/gu, ' ')
    .trimEnd();
}

/** The end of a log, of at most `maxCharacters`, gathered line by line. */
export interface LogTail {
  readonly text: string;
  add(line: string): void;
}

export function createLogTail(maxCharacters: number): LogTail {
  let text = '';
  return {
    get text() {
      return text.slice(-maxCharacters).toWellFormed();
    },
    add(line) {
      text += `${line}\n`;
      // Not after every line, since truncation copies the whole text.
      if (text.length > 2 * maxCharacters) text = text.slice(-maxCharacters);
    },
  };
}

/** The end of a build's log as text; undefined where there is none. */
export async function readLogEnd(
  entries: AsyncIterable<LogEntry> | undefined,
  maxCharacters: number,
): Promise<string | undefined> {
  const tail = createLogTail(maxCharacters);
  for await (const entry of entries ?? []) tail.add(formatLogEntry(entry));
  return tail.text || undefined;
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
