// Whether a failure is that a disk has no room left, which room that is made can mend.

/** The code that the file system uses. */
export class NoRoom extends Error {
  override readonly name: string = 'NoRoom';
  readonly code = 'ENOSPC';
}

/** The place that content of its kind may take is taken: more room on the disk would not help. */
export class BeyondBudget extends NoRoom {
  override readonly name = 'BeyondBudget';
}

export function isBeyondBudget(error: unknown): boolean {
  return error instanceof Error && (error instanceof BeyondBudget || isBeyondBudget(error.cause));
}

const CODES: readonly unknown[] = ['ENOSPC', 'EDQUOT'];

/** Looks at what the error was caused by, too. */
export function isNoRoom(error: unknown): boolean {
  return error instanceof Error && (('code' in error && CODES.includes(error.code)) || isNoRoom(error.cause));
}
