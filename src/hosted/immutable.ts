// Tags that the owner wants to stay as they are, together with all that they lead to.
import { type Digest, parseDigest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { membersOf, tagKey } from './records.ts';
import type { Room } from './room.ts';

/** Throws DENIED where an immutable tag is there and points to another manifest. Holds until the next change. */
export async function refuseMove(room: Room, repository: string, tag: string, digest: Digest): Promise<void> {
  if (!room.options.isImmutable(repository, tag)) return;
  const current = await room.records.tags.find(tagKey(repository, tag));
  if (current && current.digest !== digest) {
    throw denied(`the tag ${tag} of ${repository} is immutable, and points to ${current.digest}: push another tag`);
  }
}

/** Throws DENIED for an immutable tag. */
export function refuseTagRemoval(room: Room, repository: string, tag: string): void {
  if (room.options.isImmutable(repository, tag)) throw denied(`the tag ${tag} of ${repository} is immutable`);
}

/** Throws DENIED where an immutable tag points to the manifest, or to an index that leads to it. Holds until the next change. */
export async function refuseRemoval(room: Room, repository: string, digest: Digest): Promise<void> {
  const { tagged, references } = room.records;
  const met = new Set<Digest>([digest]);
  for (const ancestor of met) {
    const tags = await membersOf(tagged, repository, ancestor);
    const immutable = tags.find(tag => room.options.isImmutable(repository, tag));
    if (immutable !== undefined)
      throw denied(`the tag ${immutable} of ${repository} is immutable, and needs ${digest}`);
    // A set that grows while it is walked: parents of parents are met in turn.
    for (const parent of await membersOf(references, repository, ancestor)) met.add(parseDigest(parent));
  }
}

function denied(message: string): RegistryError {
  return new RegistryError('DENIED', message);
}
