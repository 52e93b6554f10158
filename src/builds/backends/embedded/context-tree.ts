// The build context on disk as a file system: owned by root, without times, and without what .dockerignore excludes.
import { lstat, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { type IgnoreRules, readFileOf, readIgnoreRules } from '../../context/directory.ts';
import { InvalidContext } from '../../context/tree.ts';
import type { Modes } from '../../context/unpack-context.ts';
import type { Work } from '../../work.ts';
import { type DirectoryNode, emptyDirectory, type Node } from './file-system.ts';
import { InvalidStep } from './step.ts';

const MODE = 0o7777;

/** Nothing is read through a symlink. Throws InvalidStep for a .dockerignore that cannot be read, or what `work` throws. */
export async function readContext(
  directory: string,
  {
    modes = new Map(),
    work,
  }: {
    /** Of entries, by name, that have another one on disk. */
    readonly modes?: Modes | undefined;
    readonly work: Work;
  },
): Promise<DirectoryNode> {
  try {
    const rules = await readIgnoreRules(directory, undefined, work);
    return { ...emptyDirectory, children: await readChildren(directory, '', { rules, modes }) };
  } catch (error) {
    if (!(error instanceof InvalidContext)) throw error;
    throw new InvalidStep(error.message, { cause: error });
  }
}

interface Reading {
  readonly rules: IgnoreRules;
  readonly modes: Modes;
}

async function readChildren(directory: string, below: string, reading: Reading): Promise<ReadonlyMap<string, Node>> {
  const children = new Map<string, Node>();
  const names = await readdir(directory);
  for (const name of names.sort()) {
    const node = await readNode(join(directory, name), below === '' ? name : `${below}/${name}`, reading);
    if (node) children.set(name, node);
  }
  return children;
}

async function readNode(path: string, name: string, reading: Reading): Promise<Node | undefined> {
  const { rules, modes } = reading;
  const stats = await lstat(path);
  const isIgnored = await rules.ignores(name);
  if (isIgnored && !(stats.isDirectory() && rules.hasExceptions)) return undefined;
  const attributes = { mode: modes.get(name) ?? stats.mode & MODE, uid: 0, gid: 0, mtime: 0, xattrs: {} };
  if (stats.isDirectory()) {
    const children = await readChildren(path, name, reading);
    return isIgnored && children.size === 0 ? undefined : { ...attributes, kind: 'directory', children };
  }
  if (stats.isSymbolicLink()) return { ...attributes, kind: 'symlink', mode: 0o777, target: await readlink(path) };
  return stats.isFile()
    ? { ...attributes, kind: 'file', size: stats.size, open: () => readFileOf(path, stats, changed) }
    : undefined;
}

function changed(): Error {
  return new Error('the build context changed while it was read');
}
