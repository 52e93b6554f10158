// A local directory as the tar of a layer: everything in it, with modes and links, without times and owners.
import type { Stats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { sortInSteps } from '../../content/sort-in-steps.ts';
import { readFileOf } from './directory.ts';
import { encodeTar } from './tar.ts';
import type { Entry } from './tree.ts';

/** It cannot become a layer. `message` names the path and what is wrong. */
export class InvalidLayerDirectory extends Error {
  override readonly name = 'InvalidLayerDirectory';
}

export interface LayerDirectoryLimits {
  /** Of all files together. */
  readonly maxBytes: number;
  /** Files, directories and links. */
  readonly maxEntries: number;
}

/** An entry of the directory, as of when it was examined. */
export interface LayerFile {
  /** Its path in the layer. */
  readonly name: string;
  readonly path: string;
  readonly stats: Stats;
  /** Of a symlink. */
  readonly target?: string | undefined;
}

/** Kubernetes stores the contents of ConfigMap and Secret volumes in a hidden directory, and swaps this link to update all at once. */
const SWAPPED = '..data';
const PERMISSIONS = 0o7777;

/** The same files give the same bytes. Throws InvalidLayerDirectory, or the error of the file system; a later one breaks the stream. */
export async function packLayer(directory: string, limits?: LayerDirectoryLimits): Promise<ReadableStream<Uint8Array>> {
  return packFiles(await listLayer(directory, limits));
}

/** The caller reads it to its end or cancels it. It breaks with InvalidLayerDirectory where a file was replaced meanwhile. */
export function packFiles(files: readonly LayerFile[]): ReadableStream<Uint8Array> {
  const entries = files.map((file): [string, Entry] => [file.name, entryOf(file)]);
  const byName = new Map(entries);
  return encodeTar({ list: () => entries, find: name => byName.get(name) });
}

/**
 * Everything below the directory, sorted by name; links are not followed, except the one that Kubernetes swaps. Throws
 * InvalidLayerDirectory for entries that layers do not support and beyond the limits, or the error of the file system.
 */
export async function listLayer(directory: string, limits?: LayerDirectoryLimits): Promise<readonly LayerFile[]> {
  const { maxBytes = Number.POSITIVE_INFINITY, maxEntries = Number.POSITIVE_INFINITY } = limits ?? {};
  const files: LayerFile[] = [];
  let bytes = 0;

  function add(file: LayerFile): void {
    files.push(file);
    bytes += file.stats.isFile() ? file.stats.size : 0;
    if (files.length > maxEntries) throw invalid(directory, `has more than ${maxEntries} files and directories`);
    if (bytes > maxBytes) throw invalid(directory, `has files of more than ${maxBytes} bytes`);
  }

  async function addChildren(parent: string, prefix: string): Promise<void> {
    const names = await readdir(parent);
    if (names.includes(SWAPPED)) {
      const target = await findSwapped(parent);
      if (target !== undefined) return addChildren(target, prefix);
    }
    for (const file of await Promise.all(names.map(name => inspect(parent, prefix, name)))) {
      add(file);
      if (file.stats.isDirectory()) await addChildren(file.path, `${file.name}/`);
    }
  }

  await addChildren(directory, '');
  return sortInSteps(files, ({ name: a }, { name: b }) => (a < b ? -1 : 1));
}

/** The directory with the visible contents, beside its link; undefined where the link is another one. */
async function findSwapped(parent: string): Promise<string | undefined> {
  const path = join(parent, SWAPPED);
  if (!(await lstat(path)).isSymbolicLink()) return undefined;
  const target = await readlink(path);
  if (!/^\.\.[^/]+$/.test(target)) return undefined;
  const place = join(parent, target);
  return (await lstat(place)).isDirectory() ? place : undefined;
}

async function inspect(parent: string, prefix: string, name: string): Promise<LayerFile> {
  const path = join(parent, name);
  // Bytes that are not UTF-8 arrive as U+FFFD: two names could become one.
  if (name.includes('\ufffd')) throw invalid(path, 'has a name that is not UTF-8');
  const stats = await lstat(path);
  const target = stats.isSymbolicLink() ? await readlink(path) : undefined;
  if (target === undefined && !stats.isDirectory() && !stats.isFile()) {
    throw invalid(path, 'is a socket, a fifo or a device, which no layer has');
  }
  return { name: `${prefix}${name}`, path, stats, target };
}

/** A link is stored as it is: it is resolved in the container. */
function entryOf({ path, stats, target }: LayerFile): Entry {
  const mode = stats.mode & PERMISSIONS;
  if (target !== undefined) return { kind: 'symlink', target };
  if (stats.isDirectory()) return { kind: 'directory', mode };
  const open = () => readFileOf(path, stats, () => invalid(path, 'changed while it was read'));
  return { kind: 'file', mode, size: stats.size, open };
}

function invalid(path: string, reason: string): InvalidLayerDirectory {
  return new InvalidLayerDirectory(`${path} ${reason}`);
}
