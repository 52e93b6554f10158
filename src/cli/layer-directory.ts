// A directory of this machine as the tar of a layer: everything in it, with its modes and links, and without times and owners.
import { createReadStream } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeTar } from '../build/context/encode-tar.ts';
import type { Entry } from '../build/context/tree.ts';
import { NothingToSend } from './archive.ts';

/** Throws NothingToSend, or the error of the file system. The caller reads it to its end or cancels it. */
export async function packLayer(directory: string): Promise<ReadableStream<Uint8Array>> {
  const names = await readdir(directory, { recursive: true });
  const entries: [string, Entry][] = [];
  for (const name of names.sort()) entries.push([name, await readEntry(join(directory, name))]);
  const byName = new Map(entries);
  return encodeTar({ list: () => entries, find: name => byName.get(name) });
}

/** A link is kept as it is: it is the container's root that it is read in. */
async function readEntry(path: string): Promise<Entry> {
  const stats = await lstat(path);
  const mode = stats.mode & 0o7777;
  if (stats.isDirectory()) return { kind: 'directory', mode };
  if (stats.isSymbolicLink()) return { kind: 'symlink', target: await readlink(path) };
  if (stats.isFile()) return { kind: 'file', mode, size: stats.size, open: () => createReadStream(path) };
  throw new NothingToSend(`${path} is a socket, a fifo or a device, which no layer has`);
}
