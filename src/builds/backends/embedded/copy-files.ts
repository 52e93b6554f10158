// Copying files of one file system into another, as BuildKit does it.

import { createPathPatterns, InvalidPathPattern, type PathPatterns } from '../../context/path-patterns.ts';
import type { Work } from '../../work.ts';
import type { ChangeMode, Owner } from './chown-chmod.ts';
import {
  type Attributes,
  type DirectoryNode,
  type Draft,
  findNode,
  followPath,
  formatPath,
  type Node,
  type Path,
  splitPath,
} from './file-system.ts';
import { InvalidStep } from './step.ts';

interface TransferOptions {
  /** As it is written, absolute: a slash at the end says that it is a directory. */
  readonly destination: string;
  /** Whom the copies belong to; undefined: whom the originals do. */
  readonly owner: Owner | undefined;
  readonly changeMode: ChangeMode | undefined;
  /** Of directories that have to be made. */
  readonly directoryMode: number;
  readonly selection?: Selection;
  readonly work: Work;
}

/** Copies a file, or what is in a directory. Throws InvalidStep, or what `work` throws. */
export async function transfer(
  draft: Draft,
  from: DirectoryNode,
  source: Path,
  options: TransferOptions,
): Promise<void> {
  const { destination, work } = options;
  await spend(work);
  const node = findNode(from, followPath(from, source));
  if (!node) throw new InvalidStep(`${formatPath(source)} is not there`);
  const ends = /(?:^|\/)\.?$/.test(destination);
  const path = splitPath(destination);
  makeDirectories(draft, ends ? path : path.slice(0, -1), options);
  const target = findTarget(draft, path, { node, name: source.at(-1) });
  makeDirectories(
    draft,
    node.kind === 'directory' && !findNode(draft.root, target) ? target : target.slice(0, -1),
    options,
  );
  if (node.kind !== 'directory') copyLeaf(draft, target, { node, options });
  else {
    const before = findNode(draft.root, target);
    if (before && before.kind !== 'directory') throw new InvalidStep(`${formatPath(target)} is no directory`);
    await copyChildren(draft, target, { node, options, below: '', waiting: [] });
  }
}

export function makeDirectories(
  draft: Draft,
  path: Path,
  { owner, directoryMode }: Pick<TransferOptions, 'owner' | 'directoryMode'>,
): void {
  draft.makeDirectories(followPath(draft.root, path), { mode: directoryMode, ...owner });
}

function findTarget(draft: Draft, path: Path, { node, name }: { node: Node; name: string | undefined }): Path {
  const target = followPath(draft.root, path);
  const isInto = node.kind !== 'directory' && findNode(draft.root, target)?.kind === 'directory';
  return isInto && name !== undefined ? [...target, name] : target;
}

interface Copying<N> {
  readonly node: N;
  readonly options: TransferOptions;
}

interface CopyingDirectory extends Copying<DirectoryNode> {
  /** Its path below the source. */
  readonly below: string;
  /** The directories above that are made only if something in them is copied. */
  readonly waiting: readonly (() => void)[];
}

/** Of one file, as much as of some steps of a pattern. */
const STEPS_OF_A_FILE = 100;

async function spend(work: Work): Promise<void> {
  work.spend(STEPS_OF_A_FILE);
  await work.rest();
}

async function copyChildren(
  draft: Draft,
  target: Path,
  { node, options, below, waiting }: CopyingDirectory,
): Promise<void> {
  const { selection = everything, work } = options;
  const names = [...node.children.keys()].sort();
  for (const name of names) {
    const child = node.children.get(name);
    if (!child) continue;
    await spend(work);
    const childBelow = below === '' ? name : `${below}/${name}`;
    const childTarget = [...target, name];
    const isTaken = await selection.takes(childBelow);
    if (isTaken) for (const make of waiting) make();
    if (child.kind !== 'directory') {
      if (isTaken) copyLeaf(draft, childTarget, { node: child, options });
      continue;
    }
    if (isTaken) copyDirectory(draft, childTarget, { node: child, options });
    if (!isTaken && !selection.looksBelow) continue;
    const make = () => copyMissing(draft, childTarget, { node: child, options });
    const next = isTaken ? [] : [...waiting, make];
    await copyChildren(draft, childTarget, { node: child, options, below: childBelow, waiting: next });
  }
}

function copyLeaf(draft: Draft, target: Path, { node, options }: Copying<Node>): void {
  if (findNode(draft.root, target)?.kind === 'directory') {
    throw new InvalidStep(`${formatPath(target)} is a directory, and cannot be replaced by a file`);
  }
  draft.put(target, { ...node, ...attributesOf(node, options) });
}

function copyDirectory(draft: Draft, target: Path, { node, options }: Copying<DirectoryNode>): void {
  const before = findNode(draft.root, target);
  if (before && before.kind !== 'directory') throw new InvalidStep(`${formatPath(target)} is no directory`);
  draft.put(target, { ...node, ...attributesOf(node, options) });
}

/** One that something below is copied into: if it is there, it stays as it is. */
function copyMissing(draft: Draft, target: Path, copying: Copying<DirectoryNode>): void {
  if (findNode(draft.root, target)?.kind !== 'directory') copyDirectory(draft, target, copying);
}

function attributesOf(node: Node, { owner, changeMode }: TransferOptions): Partial<Attributes> {
  const mode = changeMode && node.kind !== 'symlink' ? changeMode(node.mode, node.kind === 'directory') : node.mode;
  return { ...owner, mode };
}

export interface Selection {
  /** Whether the path, below the source, is taken; one that is not may still have children that are. Rejects as PathPatterns has it. */
  takes(path: string): Promise<boolean>;
  /** Whether something below a directory that is not taken may be. */
  readonly looksBelow: boolean;
}

const everything: Selection = { takes: async () => true, looksBelow: true };

export function createSelection(included: PathPatterns | undefined, excluded: PathPatterns): Selection {
  return {
    takes: async path => (!included || (await included.match(path))) && !(await excluded.match(path)),
    looksBelow: included !== undefined || excluded.hasExceptions,
  };
}

/** Throws InvalidStep for a pattern that cannot be read. */
export function parsePatterns(texts: readonly string[], work: Work): PathPatterns {
  try {
    return createPathPatterns(texts, work);
  } catch (cause) {
    throw cause instanceof InvalidPathPattern ? new InvalidStep(cause.message, { cause }) : cause;
  }
}
