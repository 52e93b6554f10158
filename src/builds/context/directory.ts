// A directory of this machine as a build context. No link is followed on the way.
import type { Dirent, Stats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createWork } from '../work.ts';
import { type IgnoreRules, readIgnoreRules } from './ignore.ts';
import { invalidEntry } from './invalid-context.ts';
import { type ContextLimits, DEFAULT_CONTEXT_LIMITS } from './limits.ts';
import { readFileOf } from './read-file.ts';
import { createTree, type Entry, type ReadonlyTree, type Tree } from './tree.ts';

export interface DirectoryOptions {
  readonly limits?: ContextLimits | undefined;
  /** The name of the Containerfile in the directory, for an ignore file of its own. */
  readonly containerFile?: string | undefined;
}

const IGNORING = { maxSteps: 2 ** 32, what: 'the patterns of its ignore file: use fewer or simpler ones' } as const;

/** What its ignore file leaves. Files are read when they are opened. Throws InvalidContext, which names the path, or the error of the file system. */
export async function readDirectory(
  path: string,
  { limits = DEFAULT_CONTEXT_LIMITS, containerFile }: DirectoryOptions = {},
): Promise<ReadonlyTree> {
  const tree = createTree(limits);
  const rules = await readIgnoreRules(path, containerFile, createWork(IGNORING));
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
  const path = join(place.root, place.name);
  const children = await readdir(path, { withFileTypes: true }).catch(refuseUnreadable(path));
  for (const child of children) await addChild(tree, place, child);
}

async function addChild(tree: Tree, { root, name: parent, rules }: Place, child: Dirent): Promise<void> {
  const name = parent === '' ? child.name : `${parent}/${child.name}`;
  const isIgnored = await rules.ignores(name);
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
  if (stats.isFile())
    return {
      kind: 'file',
      mode,
      size,
      open: () => readFile(path, stats),
    };
  throw invalidEntry(path, 'a socket, fifo or device; name it in .dockerignore, or remove it');
}

async function* readFile(path: string, stats: Stats): AsyncGenerator<Uint8Array> {
  try {
    yield* readFileOf(path, stats, () => invalidEntry(path, 'it changed while it was read'));
  } catch (error) {
    refuseUnreadable(path)(error);
  }
}

function refuseUnreadable(path: string): (error: unknown) => never {
  return error => {
    const isRefused = error instanceof Error && 'code' in error && (error.code === 'EACCES' || error.code === 'EPERM');
    if (!isRefused) throw error;
    throw invalidEntry(path, 'this user may not read it; name it in .dockerignore, or change its mode', error);
  };
}
