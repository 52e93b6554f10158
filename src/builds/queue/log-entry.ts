// One entry of a log as a line of its file, and back.
import { type LogEntry, logEntrySchema, type Told } from '../progress.ts';

export type Redact = (text: string) => string;

/** In UTF-16 units: more of one line is cut. */
const MAX_TEXT_LENGTH = 8192;

/** What may be kept and sent: without secrets, and bounded. The whole text is redacted before it is cut. */
export function createEntry(told: Told, { redact, at }: { readonly redact: Redact; readonly at: Date }): LogEntry {
  const { text, step } = told;
  return {
    ...told,
    at: at.toISOString(),
    ...(step !== undefined && { step: bound(redact(step)) }),
    ...(text !== undefined && { text: bound(redact(text)) }),
  };
}

function bound(text: string): string {
  return text.length > MAX_TEXT_LENGTH ? `${text.slice(0, MAX_TEXT_LENGTH).toWellFormed()}…` : text;
}

export function encodeEntry(entry: LogEntry): Uint8Array {
  return Buffer.from(`${JSON.stringify(entry)}\n`);
}

/** Undefined for what is no entry: a crash may have left half a line. */
export function decodeEntry(line: Uint8Array): LogEntry | undefined {
  try {
    return logEntrySchema.parse(JSON.parse(Buffer.from(line).toString()));
  } catch {
    return undefined;
  }
}
