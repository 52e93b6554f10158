// A build context on its way into a pod: a cpio archive (newc), since busybox's tar loses names that need an extended header.
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { readDirectory } from '../../context/directory.ts';
import { bytesOf } from '../../context/tar.ts';
import type { Entry } from '../../context/tree.ts';

const ALIGNMENT = 4;
const KINDS = { file: 0o100000, directory: 0o040000, symlink: 0o120000 } as const;
const TRAILER = 'TRAILER!!!';

/** What the ignore file of the directory leaves, packed with gzip: of no time, and root's. The caller reads it to its end or returns it. */
export async function packContext(directory: string): Promise<AsyncGenerator<Uint8Array>> {
  const tree = await readDirectory(directory);
  return bytesOf(Readable.from(encodeCpio(tree.list())).compose(createGzip()));
}

/** Names are any bytes; a directory comes before what is in it. */
export async function* encodeCpio(
  entries: Iterable<readonly [name: string, entry: Entry]>,
): AsyncGenerator<Uint8Array> {
  let number = 0;
  for (const [name, entry] of entries) {
    number += 1;
    const target = entry.kind === 'symlink' ? Buffer.from(entry.target) : Buffer.alloc(0);
    const size = entry.kind === 'file' ? entry.size : target.length;
    yield header(name, { number, mode: KINDS[entry.kind] | (entry.kind === 'symlink' ? 0o777 : entry.mode), size });
    if (entry.kind === 'file') yield* entry.open();
    yield Buffer.concat([target, padding(size)]);
  }
  yield header(TRAILER, { number: 0, mode: 0, size: 0 });
}

interface Header {
  readonly number: number;
  readonly mode: number;
  readonly size: number;
}

function header(name: string, { number, mode, size }: Header): Uint8Array {
  const text = Buffer.from(`${name}\0`);
  // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
  const fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, text.length, 0];
  const head = Buffer.from(`070701${fields.map(field => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([head, text, padding(head.length + text.length)]);
}

function padding(length: number): Uint8Array {
  return Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}
