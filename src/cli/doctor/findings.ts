// What a check found: whether something is right, worth knowing or wrong, and what puts it right.
import type { Config } from '../../config/schema.ts';

export interface Finding {
  /** What was looked at, such as `upstream docker.io`. */
  readonly about: string;
  readonly level: 'ok' | 'note' | 'fault';
  readonly message: string;
  /** What to do; absent where nothing is wrong. */
  readonly remedy?: string;
}

export function ok(about: string, message: string): Finding {
  return { about, level: 'ok', message };
}

export function note(about: string, message: string, remedy?: string): Finding {
  return { about, level: 'note', message, ...(remedy !== undefined && { remedy }) };
}

export function fault(about: string, message: string, remedy: string): Finding {
  return { about, level: 'fault', message, remedy };
}

/** What the checks look at. */
export interface CheckedService {
  readonly config: Config;
  /** The configured service answers at its own address. */
  readonly isRunning: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly now: () => Date;
}

/** The code of the system or of Node behind an error, such as ENOTFOUND. */
export function findErrorCode(error: unknown): string {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ('code' in each && typeof each.code === 'string') return each.code;
    if (each instanceof AggregateError) return findErrorCode(each.errors[0]);
  }
  return error instanceof Error ? error.message : String(error);
}

const MARKS: Readonly<Record<Finding['level'], string>> = { ok: 'ok   ', note: 'note ', fault: 'FAULT' };

/** A finding, and under it what to do. */
export function formatFinding({ about, level, message, remedy }: Finding): readonly string[] {
  return [`${MARKS[level]} ${about}: ${message}`, ...(remedy === undefined ? [] : [`      → ${remedy}`])];
}
