// The file system of an image, out of its layers: image-spec layer.md. Bodies stay packed until one of a layer is wanted.
import type { ContextLimits } from '../../context/limits.ts';
import type { Spool } from '../../context/spool.ts';
import type { Work } from '../../work.ts';
import { type ArchiveEntry, readArchive, toNode } from './archive.ts';
import { createDraft, type Draft } from './draft.ts';
import { type DirectoryNode, emptyDirectory, type Node } from './node.ts';
import { findNode, followPath, formatPath, type Path } from './path.ts';
import { InvalidStep } from './step.ts';

interface PackedLayer {
  /** Names it in messages: its digest. */
  readonly name: string;
  readonly open: () => Promise<ReadableStream<Uint8Array>>;
}

export interface ReadOptions {
  readonly limits: ContextLimits;
  /** Takes the bodies of a layer when one of them is opened. */
  readonly spool: Spool;
  readonly signal: AbortSignal;
  /** Of the whole build. */
  readonly work: Work;
}

type Bodies = ReadonlyMap<number, () => AsyncIterable<Uint8Array>>;

const OPAQUE = '.wh..wh..opq';
const WHITEOUT = '.wh.';

/** Throws InvalidStep for a layer that is no tar or beyond a limit, and the error of the body that breaks. */
export async function readLayers(layers: readonly PackedLayer[], options: ReadOptions): Promise<DirectoryNode> {
  const draft = createDraft(emptyDirectory);
  for (const layer of layers) await applyLayer(draft, layer, options);
  return draft.root;
}

async function applyLayer(draft: Draft, layer: PackedLayer, options: ReadOptions): Promise<void> {
  let bodies: Promise<Bodies> | undefined;
  const written = new Set<string>();
  let index = 0;

  async function* openBody(at: number): AsyncGenerator<Uint8Array> {
    bodies ??= spoolBodies(layer, options);
    const open = (await bodies).get(at);
    if (open) yield* open();
  }

  const { limits, signal, work } = options;
  await readArchive(await layer.open(), { what: `the layer ${layer.name}`, limits }, async entry => {
    signal.throwIfAborted();
    const at = index++;
    applyEntry(draft, entry, { written, open: () => openBody(at), work });
    await work.rest();
  });
}

async function spoolBodies(layer: PackedLayer, { limits, spool, signal }: ReadOptions): Promise<Bodies> {
  const bodies = new Map<number, () => AsyncIterable<Uint8Array>>();
  let index = 0;
  await readArchive(await layer.open(), { what: `the layer ${layer.name}`, limits }, async ({ header, body }) => {
    signal.throwIfAborted();
    const at = index++;
    if (header.size > 0 && header.type?.endsWith('file')) bodies.set(at, await spool.append(body));
  });
  return bodies;
}

interface Applied {
  /** What this layer brought itself: its own whiteouts leave that alone. */
  readonly written: Set<string>;
  readonly open: () => AsyncIterable<Uint8Array>;
  readonly work: Work;
}

function applyEntry(draft: Draft, entry: ArchiveEntry, { written, open, work }: Applied): void {
  const name = entry.path.at(-1);
  if (name === undefined) return;
  const parent = followPath(draft.root, entry.path.slice(0, -1));
  if (name === OPAQUE) removeChildren(draft, parent, { written, work });
  else if (name.startsWith(WHITEOUT)) removeHidden(draft, [...parent, name.slice(WHITEOUT.length)], written);
  else {
    const node = entry.header.type === 'link' ? findLinked(draft, entry) : toNode(entry, open);
    if (!node) return;
    const path = [...parent, name];
    draft.makeDirectories(parent, {});
    draft.put(path, node);
    for (let length = path.length; length > 0; length -= 1) written.add(path.slice(0, length).join('/'));
  }
}

function removeHidden(draft: Draft, path: Path, written: ReadonlySet<string>): void {
  if (!written.has(path.join('/')) && findNode(draft.root, path)) draft.remove(path);
}

function removeChildren(draft: Draft, path: Path, { written, work }: Pick<Applied, 'written' | 'work'>): void {
  const node = findNode(draft.root, path);
  if (node?.kind !== 'directory') return;
  work.spend(node.children.size);
  for (const [name, child] of [...node.children]) {
    const below = [...path, name];
    if (!written.has(below.join('/'))) draft.remove(below);
    else if (child.kind === 'directory') removeChildren(draft, below, { written, work });
  }
}

/** Two names of one file become two files with the same bytes. */
function findLinked(draft: Draft, { header, path }: ArchiveEntry): Node {
  const target = findNode(draft.root, followTarget(draft, header.linkname ?? ''));
  if (target && target.kind !== 'directory') return target;
  throw new InvalidStep(`${formatPath(path)} is a hard link to what is not there`);
}

function followTarget(draft: Draft, name: string): Path {
  const path = name.split('/').filter(component => component !== '' && component !== '.');
  return [...followPath(draft.root, path.slice(0, -1)), ...path.slice(-1)];
}
