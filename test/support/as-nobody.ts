// What a user sees who is not root, for tests that root runs too.
import { seteuid } from 'node:process';

/** The id of `nobody`, to give files to. */
export const NOBODY = 65_534;

/** Does the work as `nobody` where root runs the tests, else as the current user. Nothing else of the test may go on meanwhile. */
export async function asNobody<T>(work: () => Promise<T>): Promise<T> {
  if (process.getuid?.() !== 0) return work();
  seteuid?.(NOBODY);
  try {
    return await work();
  } finally {
    seteuid?.(0);
  }
}
