// Copies files from one file system to another, with BuildKit's semantics.
import { createPathPatterns, InvalidPathPattern, type PathPatterns } from '../../context/path-patterns.ts';
import type { Work } from '../../work.ts';
import type { ChangeMode, Ownership } from './chown-chmod.ts';
import {
  type Attributes,
  type DirectoryNode,
  findNode,
  followPath,
  formatPath,
  type Node,
  type Path,
  type Rootfs,
  splitPath,
} from './file-system.ts';
import { InvalidStep } from './step.ts';

interface CopyOptions {
  /** As written, absolute: a trailing slash makes it a directory. */
  readonly destination: string;
  /** Undefined: that of the originals. */
  readonly chown: Ownership | undefined;
  readonly changeMode: ChangeMode | undefined;
  /** Attributes of directories that have to be created. */
  readonly directoryMode: number;
  readonly filter?: CopyFilter;
  readonly work: Work;
}

/** Copies a file, or the contents of a directory. Throws InvalidStep, or what `work` throws. */
export async function copyPath(rootfs: Rootfs, from: DirectoryNode, source: Path, options: CopyOptions): Promise<void> {
  const { destination, work } = options;
  await spend(work);
  const node = findNode(from, followPath(from, source));
  if (!node) throw new InvalidStep(`${formatPath(source)} does not exist`);
  const ends = /(?:^|\/)\.?$/.test(destination);
  const path = splitPath(destination);
  makeDirectories(rootfs, ends ? path : path.slice(0, -1), options);
  const target = findTarget(rootfs, path, { node, name: source.at(-1) });
  makeDirectories(
    rootfs,
    node.kind === 'directory' && !findNode(rootfs.root, target) ? target : target.slice(0, -1),
    options,
  );
  if (node.kind !== 'directory') copyLeaf(rootfs, target, { node, options });
  else {
    const before = findNode(rootfs.root, target);
    if (before && before.kind !== 'directory') throw new InvalidStep(`${formatPath(target)} is not a directory`);
    await copyChildren(rootfs, target, { node, options, below: '', waiting: [] });
  }
}

export function makeDirectories(
  rootfs: Rootfs,
  path: Path,
  { chown, directoryMode }: Pick<CopyOptions, 'chown' | 'directoryMode'>,
): void {
  rootfs.makeDirectories(followPath(rootfs.root, path), { mode: directoryMode, ...chown });
}

function findTarget(rootfs: Rootfs, path: Path, { node, name }: { node: Node; name: string | undefined }): Path {
  const target = followPath(rootfs.root, path);
  const isInto = node.kind !== 'directory' && findNode(rootfs.root, target)?.kind === 'directory';
  return isInto && name !== undefined ? [...target, name] : target;
}

interface Copying<N> {
  readonly node: N;
  readonly options: CopyOptions;
}

interface CopyingDirectory extends Copying<DirectoryNode> {
  /** Its path below the source. */
  readonly below: string;
  /** Parent directories that are created only if something in them is copied. */
  readonly waiting: readonly (() => void)[];
}

/** The cost of one file, in pattern steps. */
const STEPS_OF_A_FILE = 100;

async function spend(work: Work): Promise<void> {
  work.spend(STEPS_OF_A_FILE);
  await work.rest();
}

async function copyChildren(
  rootfs: Rootfs,
  target: Path,
  { node, options, below, waiting }: CopyingDirectory,
): Promise<void> {
  const { filter = allFiles, work } = options;
  const names = [...node.children.keys()].sort();
  for (const name of names) {
    const child = node.children.get(name);
    if (!child) continue;
    await spend(work);
    const childBelow = below === '' ? name : `${below}/${name}`;
    const childTarget = [...target, name];
    const isTaken = await filter.includes(childBelow);
    if (isTaken) for (const make of waiting) make();
    if (child.kind !== 'directory') {
      if (isTaken) copyLeaf(rootfs, childTarget, { node: child, options });
      continue;
    }
    if (isTaken) copyDirectory(rootfs, childTarget, { node: child, options });
    if (!isTaken && !filter.mayIncludeBelow) continue;
    const make = () => copyMissing(rootfs, childTarget, { node: child, options });
    const next = isTaken ? [] : [...waiting, make];
    await copyChildren(rootfs, childTarget, { node: child, options, below: childBelow, waiting: next });
  }
}

function copyLeaf(rootfs: Rootfs, target: Path, { node, options }: Copying<Node>): void {
  if (findNode(rootfs.root, target)?.kind === 'directory') {
    throw new InvalidStep(`${formatPath(target)} is a directory, and cannot be replaced by a file`);
  }
  rootfs.put(target, { ...node, ...attributesOf(node, options) });
}

function copyDirectory(rootfs: Rootfs, target: Path, { node, options }: Copying<DirectoryNode>): void {
  const before = findNode(rootfs.root, target);
  if (before && before.kind !== 'directory') throw new InvalidStep(`${formatPath(target)} is not a directory`);
  rootfs.put(target, { ...node, ...attributesOf(node, options) });
}

/** An existing directory that something is copied into is left as it is. */
function copyMissing(rootfs: Rootfs, target: Path, copying: Copying<DirectoryNode>): void {
  if (findNode(rootfs.root, target)?.kind !== 'directory') copyDirectory(rootfs, target, copying);
}

function attributesOf(node: Node, { chown, changeMode }: CopyOptions): Partial<Attributes> {
  const mode = changeMode && node.kind !== 'symlink' ? changeMode(node.mode, node.kind === 'directory') : node.mode;
  return { ...chown, mode };
}

/** Selects the files of a source: patterns as in .dockerignore exclude them (--exclude), or include them (--parents). */
export interface CopyFilter {
  /** Whether the path, below the source, is copied; children may be copied even if it is not. Rejects as PathPatterns has it. */
  includes(path: string): Promise<boolean>;
  /** Whether anything below an excluded directory may be copied. */
  readonly mayIncludeBelow: boolean;
}

const allFiles: CopyFilter = { includes: async () => true, mayIncludeBelow: true };

export function createCopyFilter(included: PathPatterns | undefined, excluded: PathPatterns): CopyFilter {
  return {
    includes: async path => (!included || (await included.match(path))) && !(await excluded.match(path)),
    mayIncludeBelow: included !== undefined || excluded.hasExceptions,
  };
}

/** Throws InvalidStep for an invalid pattern. */
export function parsePatterns(texts: readonly string[], work: Work): PathPatterns {
  try {
    return createPathPatterns(texts, work);
  } catch (cause) {
    throw cause instanceof InvalidPathPattern ? new InvalidStep(cause.message, { cause }) : cause;
  }
}
