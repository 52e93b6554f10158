// Absence that a caller expects, told apart from failure.
import { RegistryError } from './errors.ts';

/** What a registry has not becomes undefined: an error of one of `statuses`. */
export async function orUndefined<T>(work: Promise<T>, statuses: readonly number[] = [404]): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof RegistryError && statuses.includes(cause.status)) return undefined;
    throw cause;
  }
}
