// Whether a failure is that a disk has no room left, which room that is made can mend.

/** The code that the file system uses. */
export class NoRoom extends Error {
  override readonly name = 'NoRoom';
  readonly code = 'ENOSPC';
}

const CODES: readonly unknown[] = ['ENOSPC', 'EDQUOT'];

/** Looks at what the error was caused by, too. */
export function isNoRoom(error: unknown): boolean {
  return error instanceof Error && (('code' in error && CODES.includes(error.code)) || isNoRoom(error.cause));
}
