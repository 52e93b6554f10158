// A root file system in memory, and two ways to put files on it: as engines put one layer on others, and as COPY puts files into an image.
import { extract } from 'tar-stream';
import { normalizePath } from '../../src/augment/layer-index.ts';
import { bytesOf } from '../../src/builds/context/tar.ts';
import type { TarFile } from './build-images.ts';

/** By its path from the root, without slashes around it. */
export type FileTree = ReadonlyMap<string, TreeNode>;

interface TreeNode {
  readonly type: 'directory' | 'symlink' | 'file';
  readonly mode?: number | undefined;
  readonly target?: string | undefined;
  readonly body?: string | undefined;
}

/** A layer of its own over what was there: what it has hides what has the same name, but directories become one. */
export function layOver(before: FileTree, layer: readonly TarFile[]): FileTree {
  const after = new Map(before);
  for (const file of layer) {
    const path = normalizePath(file.name);
    for (const above of pathsAbove(path)) makeDirectory(after, above);
    put(after, path, file);
  }
  return after;
}

/** Each file at the place that its directory's path leads to, and directories into those that are there. Undefined where COPY fails. */
export function copyOver(before: FileTree, files: readonly TarFile[]): FileTree | undefined {
  const after = new Map(before);
  for (const file of files) {
    const path = normalizePath(file.name);
    const isDirectory = file.type === 'directory';
    const place = resolve(after, isDirectory ? path : path.slice(0, Math.max(0, path.lastIndexOf('/'))));
    if (place === undefined) return undefined;
    for (const above of [...pathsAbove(place), ...(isDirectory || place === '' ? [] : [place])]) {
      if (after.has(above) && after.get(above)?.type !== 'directory') return undefined;
      makeDirectory(after, above);
    }
    const name = path.slice(path.lastIndexOf('/') + 1);
    const target = isDirectory ? place : place === '' ? name : `${place}/${name}`;
    const there = after.get(target);
    if (isDirectory && there && there.type !== 'directory') return undefined;
    if (!isDirectory && there?.type === 'directory') return undefined;
    // A directory that a link leads to keeps what it is.
    const isThroughLink = isDirectory && after.get(resolveParent(after, path))?.type === 'symlink';
    if (!(isThroughLink && (there || target === ''))) put(after, target, file);
  }
  return after;
}

function put(tree: Map<string, TreeNode>, path: string, { type, linkname, mode, body }: TarFile): void {
  if (path === '') return;
  const isDirectory = type === 'directory';
  if (!isDirectory) for (const other of tree.keys()) if (other.startsWith(`${path}/`)) tree.delete(other);
  if (isDirectory) tree.set(path, { type, mode });
  else if (type === 'symlink') tree.set(path, { type, target: linkname ?? '' });
  else tree.set(path, { type: 'file', mode, body });
}

function makeDirectory(tree: Map<string, TreeNode>, path: string): void {
  if (tree.get(path)?.type !== 'directory') tree.set(path, { type: 'directory', mode: 0o755 });
}

function pathsAbove(path: string): readonly string[] {
  const parts = path === '' ? [] : path.split('/');
  return parts.slice(0, -1).map((_, at) => parts.slice(0, at + 1).join('/'));
}

/** The path with what is above its last name followed. */
function resolveParent(tree: FileTree, path: string): string {
  const slash = path.lastIndexOf('/');
  const parent = resolve(tree, path.slice(0, Math.max(0, slash))) ?? '';
  return parent === '' ? path.slice(slash + 1) : `${parent}/${path.slice(slash + 1)}`;
}

/** Where a path leads; undefined for a circle. */
function resolve(tree: FileTree, path: string, depth = 0): string | undefined {
  let at = '';
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') {
      at = at.slice(0, Math.max(0, at.lastIndexOf('/')));
      continue;
    }
    const next = at === '' ? part : `${at}/${part}`;
    const { target } = tree.get(next) ?? {};
    if (target === undefined) at = next;
    else {
      if (depth > 40) return undefined;
      const led = resolve(tree, target.startsWith('/') ? target : `${at}/${target}`, depth + 1);
      if (led === undefined) return undefined;
      at = led;
    }
  }
  return at;
}

/** The members of a tar, as another reader than ours sees them. */
export async function readTarFiles(tar: Uint8Array): Promise<readonly (TarFile & { readonly body: string })[]> {
  const files: (TarFile & { readonly body: string })[] = [];
  const archive = extract();
  archive.end(tar);
  for await (const entry of archive) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of bytesOf(entry)) chunks.push(chunk);
    files.push({ ...entry.header, body: Buffer.concat(chunks).toString('utf8') });
  }
  return files;
}
