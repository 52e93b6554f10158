// The findings of checks: passed, worth knowing or wrong, with a remedy.
import type { Config } from '../../config/schema.ts';

export interface Finding {
  /** The subject of the check, such as `upstream docker.io`. */
  readonly about: string;
  readonly level: 'ok' | 'note' | 'fault';
  readonly message: string;
  /** The remedy; absent if nothing is wrong. */
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

/** The input of the checks. */
export interface CheckedService {
  readonly config: Config;
  /** The configured service answers at its own address. */
  readonly isRunning: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly now: () => Date;
}

/** The error code of the system or of Node behind an error, such as ENOTFOUND. */
export function findErrorCode(error: unknown): string {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ('code' in each && typeof each.code === 'string') return each.code;
    if (each instanceof AggregateError) return findErrorCode(each.errors[0]);
  }
  return error instanceof Error ? error.message : String(error);
}

const MARKS: Readonly<Record<Finding['level'], string>> = { ok: 'ok   ', note: 'note ', fault: 'FAULT' };

/** A finding, with its remedy on the next line. */
export function formatFinding({ about, level, message, remedy }: Finding): readonly string[] {
  return [`${MARKS[level]} ${about}: ${message}`, ...(remedy === undefined ? [] : [`      → ${remedy}`])];
}
