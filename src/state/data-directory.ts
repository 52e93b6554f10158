// The data directory: how it is made, and what an operator reads when it cannot be used.
import { accessSync, constants, existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/** For the operator: it says which path cannot be used, why, and what would help. */
export class StateFault extends Error {
  override readonly name = 'StateFault';

  constructor(path: string, cause: unknown) {
    super(`cannot use ${path}: ${explain(path, cause)}`, { cause });
  }
}

/** Makes the directory where it is absent, for this user alone, with those above it. Throws StateFault unless it can be written to. */
export function makeDirectory(directory: string): void {
  try {
    // Not by `recursive`: below /proc, where nothing is and nothing can be made, Node would try for ever.
    for (const missing of missingOf(resolve(directory))) mkdirSync(missing, { mode: 0o700 });
    if (!statSync(directory).isDirectory()) throw new Error('it is a file, where a directory is expected');
    accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new StateFault(directory, error);
  }
}

/** Those of a path that are not there, the outermost first. */
function missingOf(path: string): readonly string[] {
  return existsSync(path) ? [] : [...missingOf(dirname(path)), path];
}

/** Codes of the system, and of SQLite, which opens a file that it may not write to for reading. */
const DENIED: readonly unknown[] = ['EACCES', 'EPERM', 8, 14];

/** Of SQLite, for what is no database, or none any more. */
const DAMAGED: readonly unknown[] = [11, 26];
const FULL: readonly unknown[] = ['ENOSPC', 'EDQUOT', 13, 4874];

function explain(path: string, cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  const code = 'errcode' in cause ? cause.errcode : 'code' in cause ? cause.code : undefined;
  if (DAMAGED.includes(code)) {
    return `it is damaged, or of another program (${cause.message}): move it away, with its -wal, and bring a backup back (veneer restore), or have \`veneer repair\` rebuild what the bytes tell`;
  }
  if (FULL.includes(code)) return `the disk is full (${cause.message}): make a megabyte of room on it`;
  if (!DENIED.includes(code)) return cause.message;
  const user = process.geteuid?.();
  const whose = user === undefined ? 'this user' : `the user ${user}`;
  const remedy = user === undefined ? 'give it to that user' : `give it to that user (chown -R ${user} ${path})`;
  return `${whose} may not write to it (${cause.message}): ${remedy}, or name another directory with --data-dir`;
}
