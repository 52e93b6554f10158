// A repository needs no making: it is there while it has a manifest or links a blob.
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import type { Room } from './room.ts';

export async function hasRepository({ records }: Room, repository: string): Promise<boolean> {
  // A tag points to a manifest of its repository, always.
  const page = { prefix: `${repository}@`, limit: 1 };
  return (await records.manifests.list(page)).length > 0 || (await records.blobs.list(page)).length > 0;
}

/** The error for what is not in a repository: NAME_UNKNOWN where nothing is in it at all. */
export async function absent(room: Room, repository: string, code: ErrorCode, what: string): Promise<RegistryError> {
  if (await hasRepository(room, repository)) return new RegistryError(code, `${repository} has no ${what}`);
  return new RegistryError('NAME_UNKNOWN', `there is no repository ${repository}`);
}
