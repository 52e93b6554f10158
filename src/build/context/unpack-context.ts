// A stored context as files. Its names are checked here too, and symlinks come last: no write goes through one.
import { constants } from 'node:fs';
import { chmod, lutimes, mkdir, open, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { createVerifier, type Verifier } from '../../oci/verify.ts';
import { checkSymlink, parseEntryName } from './entry-name.ts';
import { invalidEntry } from './invalid-context.ts';
import { type TarEntry, tarEntries } from './tar-entries.ts';

/** No clock decides what a build sees. */
const EPOCH = new Date(0);
const PRIVATE_FILE = 0o600;
const PRIVATE_DIRECTORY = 0o700;
const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

/**
 * Writes what `storeContext` kept into an empty directory, which nobody else can write to. Throws ContentMismatch where the bytes are not
 * those of the digest: what was written until then is to be thrown away.
 */
export async function unpackContext(
  content: Pick<ContentStore, 'open'>,
  digest: Digest,
  directory: string,
): Promise<void> {
  const tar = await content.open(digest);
  if (!tar) throw new Error(`the build context ${digest} is not kept any more`);
  const verifier = createVerifier({ digest });
  const written: Written = { directories: [directory], symlinks: [] };
  for await (const entry of tarEntries(verified(tar, verifier))) await writeEntry(directory, entry, written);
  verifier.finish();
  for (const [path, target] of written.symlinks) {
    await symlink(target, path);
    await lutimes(path, EPOCH, EPOCH);
  }
  // Last, as what is made in a directory changes its time.
  for (const path of written.directories) await lutimes(path, EPOCH, EPOCH);
}

interface Written {
  readonly directories: string[];
  /** Still to be made. */
  readonly symlinks: (readonly [path: string, target: string])[];
}

async function writeEntry(directory: string, entry: TarEntry, { directories, symlinks }: Written): Promise<void> {
  const { name, type, mode, linkname } = entry.header;
  const components = parseEntryName(name);
  const path = join(directory, ...components);
  switch (type) {
    case 'directory':
      await makeDirectory(path, mode);
      directories.push(path);
      return;
    case 'symlink':
      checkSymlink(components, linkname);
      symlinks.push([path, linkname]);
      return;
    case 'file':
      return await writeNew(path, entry);
    default:
      throw invalidEntry(name, 'nothing that a stored context has');
  }
}

async function* verified(tar: ReadableStream<Uint8Array>, verifier: Verifier): AsyncGenerator<Uint8Array> {
  for await (const chunk of tar) {
    verifier.update(chunk);
    yield chunk;
  }
}

async function makeDirectory(path: string, mode: number): Promise<void> {
  await mkdir(path, { mode: PRIVATE_DIRECTORY });
  // Whatever the umask says.
  await chmod(path, mode);
}

async function writeNew(path: string, { header, body }: TarEntry): Promise<void> {
  const file = await open(path, NEW_FILE, PRIVATE_FILE);
  try {
    for await (const chunk of body) await file.writeFile(chunk);
    await file.chmod(header.mode);
    await file.utimes(EPOCH, EPOCH);
  } finally {
    await file.close();
  }
}
