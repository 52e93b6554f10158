// A full disk is the registry's trouble, not a fault of a push: one error, wherever it is met.
import { RegistryError } from '../oci/errors.ts';

const CODES: readonly unknown[] = ['ENOSPC', 'EDQUOT'];

/** Throws UNAVAILABLE (507) in place of whatever a full disk made `work` throw. */
export async function refuseFullDisk<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isDiskFull(error)) throw error;
    throw new RegistryError('UNAVAILABLE', 'the disk of the registry is full: nothing was kept and nothing changed', {
      status: 507,
      cause: error,
    });
  }
}

export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && (('code' in error && CODES.includes(error.code)) || isDiskFull(error.cause));
}
