// Unpacks a stored context. Its names are checked again, and symlinks are created last: no write goes through one.
import { constants } from 'node:fs';
import { chmod, lutimes, mkdir, open, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { geteuid } from 'node:process';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { createVerifier, type Verifier } from '../../oci/verify.ts';
import { type TarEntry, tarEntries } from './tar.ts';
import { checkSymlink, invalidEntry, parseEntryName } from './tree.ts';

/** Fixed, so that builds do not depend on the time. */
const EPOCH = new Date(0);
const PRIVATE_FILE = 0o600;
const PRIVATE_DIRECTORY = 0o700;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/** The permissions that a user other than root needs to read an entry, and everything below it. */
const READABLE = { directory: 0o500, file: 0o400 } as const;

export type Modes = ReadonlyMap<string, number>;

/**
 * Unpacks what `storeContext` has stored into an empty directory that no other user can write to. Returns the modes, by name, of entries
 * that this process could not read with them, and which are readable here instead: only root needs no such exception. Throws
 * ContentMismatch where the bytes do not match the digest: anything written by then must be discarded.
 */
export async function unpackContext(
  content: Pick<ContentStore, 'open'>,
  digest: Digest,
  directory: string,
): Promise<Modes> {
  const tar = await content.open(digest);
  if (!tar) throw new Error(`the build context ${digest} is missing`);
  const verifier = createVerifier({ digest });
  const written: Written = { directories: [[directory, PRIVATE_DIRECTORY]], symlinks: [], modes: new Map() };
  for await (const entry of tarEntries(verified(tar, verifier))) await writeEntry(directory, entry, written);
  verifier.finish();
  for (const [path, target] of written.symlinks) {
    await symlink(target, path);
    await lutimes(path, EPOCH, EPOCH);
  }
  // Last, since creating entries in a directory changes its time, and read-only ones must be filled first.
  for (const [path, mode] of written.directories.toReversed()) {
    await lutimes(path, EPOCH, EPOCH);
    // Independent of the umask.
    await chmod(path, mode);
  }
  return written.modes;
}

interface Written {
  /** With their final modes pending. */
  readonly directories: (readonly [path: string, mode: number])[];
  /** Yet to be created. */
  readonly symlinks: (readonly [path: string, target: string])[];
  readonly modes: Map<string, number>;
}

async function writeEntry(directory: string, entry: TarEntry, written: Written): Promise<void> {
  const { name, type, linkname } = entry.header;
  const components = parseEntryName(name);
  const path = join(directory, ...components);
  switch (type) {
    case 'directory':
      await mkdir(path, { mode: PRIVATE_DIRECTORY });
      written.directories.push([path, readableMode(entry, type, written)]);
      return;
    case 'symlink':
      checkSymlink(components, linkname);
      written.symlinks.push([path, linkname]);
      return;
    case 'file':
      return await writeNew(path, entry, readableMode(entry, type, written));
    default:
      throw invalidEntry(name, 'an entry that stored contexts never have');
  }
}

async function* verified(tar: ReadableStream<Uint8Array>, verifier: Verifier): AsyncGenerator<Uint8Array> {
  for await (const chunk of tar) {
    verifier.update(chunk);
    yield chunk;
  }
}

function readableMode({ header: { name, mode } }: TarEntry, type: keyof typeof READABLE, { modes }: Written): number {
  const isReadable = geteuid?.() === 0 || (mode & READABLE[type]) === READABLE[type];
  if (!isReadable) modes.set(parseEntryName(name).join('/'), mode);
  return isReadable ? mode : mode | READABLE[type];
}

async function writeNew(path: string, { body }: TarEntry, mode: number): Promise<void> {
  const file = await open(path, NEW_FILE, PRIVATE_FILE);
  try {
    for await (const chunk of body) await file.writeFile(chunk);
    await file.utimes(EPOCH, EPOCH);
    await file.chmod(mode);
  } finally {
    await file.close();
  }
}
