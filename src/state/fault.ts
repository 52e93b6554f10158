// What keeps records from being opened: a directory or a file that is not as it should be.

/** For the operator: it says which path cannot be used, and why. */
export class StateFault extends Error {
  override readonly name = 'StateFault';

  constructor(path: string, cause: unknown) {
    super(`cannot use ${path}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
