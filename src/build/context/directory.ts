// A directory of this machine as a build context. No link is followed on the way.
import { constants, type Dirent, type Stats } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { readChunk } from '../../content/file-stream.ts';
import { type IgnoreRules, readIgnoreRules } from './ignore.ts';
import { invalidEntry } from './invalid-context.ts';
import { type ContextLimits, DEFAULT_CONTEXT_LIMITS } from './limits.ts';
import { createTree, type Entry, type ReadonlyTree, type Tree } from './tree.ts';

export interface DirectoryOptions {
  readonly limits?: ContextLimits | undefined;
  /** The name of the Containerfile in the directory, for an ignore file of its own. */
  readonly containerFile?: string | undefined;
}

/** What its ignore file leaves. Files are read when they are opened. Throws InvalidContext, which names the path, or the error of the file system. */
export async function readDirectory(
  path: string,
  { limits = DEFAULT_CONTEXT_LIMITS, containerFile }: DirectoryOptions = {},
): Promise<ReadonlyTree> {
  const tree = createTree(limits);
  const rules = await readIgnoreRules(path, containerFile);
  await addChildren(tree, { root: path, name: '', rules });
  return tree;
}

interface Place {
  readonly root: string;
  /** Of the directory, relative to the root. */
  readonly name: string;
  readonly rules: IgnoreRules;
}

async function addChildren(tree: Tree, place: Place): Promise<void> {
  const children = await readdir(join(place.root, place.name), { withFileTypes: true });
  for (const child of children) await addChild(tree, place, child);
}

async function addChild(tree: Tree, { root, name: parent, rules }: Place, child: Dirent): Promise<void> {
  const name = parent === '' ? child.name : `${parent}/${child.name}`;
  const isIgnored = rules.ignores(name);
  if (isIgnored && !(child.isDirectory() && rules.hasExceptions)) return;
  const path = join(root, name);
  // A directory of which only some files are wanted comes with them.
  if (!isIgnored) tree.add(name, await entryOf(path, await lstat(path)));
  if (child.isDirectory()) await addChildren(tree, { root, name, rules });
}

async function entryOf(path: string, stats: Stats): Promise<Entry> {
  const { mode, size } = stats;
  if (stats.isDirectory()) return { kind: 'directory', mode };
  if (stats.isSymbolicLink()) return { kind: 'symlink', target: await readlink(path) };
  if (stats.isFile()) return { kind: 'file', mode, size, open: () => readWhole(path, stats) };
  throw invalidEntry(path, 'a socket, fifo or device; name it in .dockerignore, or remove it');
}

/** The bytes of the file that was seen, and of no other that has its name now. */
async function* readWhole(path: string, { dev, ino, size }: Stats): AsyncGenerator<Uint8Array> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const now = await file.stat();
    if (now.dev !== dev || now.ino !== ino || now.size !== size) {
      throw invalidEntry(path, 'it changed while it was read');
    }
    for (let at = 0; at < size; ) {
      const chunk = await readChunk(file, at, size);
      at += chunk.byteLength;
      yield chunk;
    }
  } finally {
    await file.close();
  }
}
