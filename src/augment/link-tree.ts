// The links and directories of a root file system, built from the indexes of an image's layers: it determines where a layer on top of them
// belongs.
import { setImmediate } from 'node:timers/promises';
import { RegistryError } from '../oci/errors.ts';
import {
  type DirectoryAttributes,
  entriesOf,
  type IndexEntry,
  joinPath,
  type LayerIndex,
  parentOf,
} from './layer-index.ts';
import { createMapper, type Placement, readable } from './placement.ts';

/** A root file system, as far as links and directories go, to which layers are applied. */
interface LinkTree {
  /** Applies a layer, moved or as it is. Calls are sequential; a large layer yields to other work in between. */
  add(layer: LayerIndex, placement?: Placement): Promise<void>;
  /**
   * How the layer's entries must be moved; undefined where they stay in place. Throws MANIFEST_INVALID for links that form a loop, or lead
   * to something that is not a directory.
   */
  place(layer: LayerIndex): Placement | undefined;
}

/** A link or a directory. Files have no node: there are too many. */
interface Node {
  /** Of a link. */
  target?: string;
  /** Of a directory with its own tar member. */
  attributes?: DirectoryAttributes;
  /** The layer that made it what it is. */
  layer: number;
  children?: Map<string, Node>;
}

/** As many links as Linux follows. */
const MAX_LINKS = 40;
const ENTRIES_AT_ONCE = 10_000;

export function createLinkTree(): LinkTree {
  const root: Node = { layer: -1 };
  const layers: Entries[] = [];

  return {
    async add(index, placement) {
      const entries = createEntries(index, placement);
      const adding = createAdding(root, layers.length);
      let count = 0;
      for (const apply of [(entry: IndexEntry) => hide(root, entry), adding]) {
        for (const entry of entries()) {
          apply(entry);
          count += 1;
          if (count % ENTRIES_AT_ONCE === 0) await setImmediate();
        }
      }
      layers.push(entries);
    },
    place: index => planPlacement(index, root, path => isFile(path, layers)),
  };
}

type Entries = () => Iterable<IndexEntry>;

function createEntries(index: LayerIndex, placement: Placement | undefined): Entries {
  const mapper = placement && createMapper(placement);
  return function* () {
    for (const entry of entriesOf(index)) {
      const path = mapper ? mapper.map(entry.path, entry.kind) : entry.path;
      if (path !== undefined) yield { ...entry, path };
    }
  };
}

/** The topmost layer that has the path decides, by its last entry. */
function isFile(path: string, layers: readonly Entries[]): boolean {
  for (const entries of layers.toReversed()) {
    let found: boolean | undefined;
    for (const { kind, path: other } of entries()) {
      if (kind === 'whiteout' || kind === 'opaque') {
        const isHidden = other === '' || other === path || path.startsWith(`${other}/`);
        if (isHidden && !(kind === 'opaque' && other === path)) found ??= false;
      } else if (other === path) found = kind === 'file';
      else if (other.startsWith(`${path}/`)) found = false;
    }
    if (found !== undefined) return found;
  }
  return false;
}

/** What a layer hides of those below. */
function hide(root: Node, { kind, path }: IndexEntry): void {
  if (kind === 'opaque') delete findNode(root, path)?.children;
  else if (kind === 'whiteout') findNode(root, parentOf(path))?.children?.delete(nameOf(path));
}

/**
 * What a layer adds. Its own links are followed, as engines do when they unpack a layer on its own; a link of the layers below is hidden.
 * Most entries are files in the directory of the previous one.
 */
function createAdding(root: Node, layer: number): (entry: IndexEntry) => void {
  let last: { readonly path: string; readonly node: Node | undefined } | undefined;

  return entry => {
    const { kind, path } = entry;
    if (kind === 'whiteout' || kind === 'opaque') return;
    const parent = parentOf(path);
    if (last?.path !== parent) last = { path: parent, node: makeDirectory(root, parent, layer) };
    if (last.node) put(last.node, entry, layer);
    if (kind !== 'file') last = undefined;
  };
}

function put(parent: Node, entry: IndexEntry, layer: number): void {
  const name = nameOf(entry.path);
  if (entry.kind === 'file') {
    parent.children?.delete(name);
    return;
  }
  parent.children ??= new Map();
  if (entry.kind === 'link') parent.children.set(name, { target: entry.target, layer });
  else if (entry.kind === 'directory') {
    const before = parent.children.get(name);
    const children = before?.target === undefined ? before?.children : undefined;
    parent.children.set(name, { attributes: entry.attributes, layer, ...(children && { children }) });
  }
}

/** Undefined where the layer's own links form a loop. */
function makeDirectory(root: Node, path: string, layer: number): Node | undefined {
  const follow = (node: Node) => node.layer === layer;
  const walked = walk(root, partsOf(path), follow);
  if (!walked) return undefined;
  let node = root;
  for (const part of walked) {
    node.children ??= new Map();
    const child = node.children.get(part);
    const next: Node = child && child.target === undefined ? child : { layer };
    if (next !== child) node.children.set(part, next);
    node = next;
  }
  return node;
}

/** Resolves a path from the root through links; undefined for a loop. */
function walk(root: Node, parts: readonly string[], follows: (node: Node) => boolean): readonly string[] | undefined {
  const ahead = parts.toReversed();
  const walked: string[] = [];
  const nodes: (Node | undefined)[] = [];
  let links = 0;
  for (let part = ahead.pop(); part !== undefined; part = ahead.pop()) {
    if (part === '..') {
      walked.pop();
      nodes.pop();
      continue;
    }
    const above = walked.length === 0 ? root : nodes.at(-1);
    const node = above?.children?.get(part);
    if (node?.target !== undefined && follows(node)) {
      links += 1;
      if (links > MAX_LINKS) return undefined;
      if (node.target.startsWith('/')) walked.length = nodes.length = 0;
      ahead.push(...partsOf(node.target).toReversed());
    } else {
      walked.push(part);
      nodes.push(node);
    }
  }
  return walked;
}

function findNode(root: Node, path: string): Node | undefined {
  let node: Node | undefined = root;
  for (const part of partsOf(path)) node = node?.children?.get(part);
  return node;
}

function partsOf(path: string): readonly string[] {
  return path.split('/').filter(part => part !== '' && part !== '.');
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

type FileTest = (path: string) => boolean;

function planPlacement(index: LayerIndex, root: Node, isFileAt: FileTest): Placement | undefined {
  const { directories, replaced, emptied } = surveyLayer(index);
  /** For each directory of the layer, its location in the image; undefined below a path that the layer itself replaces. */
  const targets = new Map<string, { readonly path: string; readonly isOwn: boolean }>([
    ['', { path: '', isOwn: false }],
  ]);
  const moves: { from: string; to: string }[] = [];
  // Sorted: parents come before their children.
  for (const from of [...directories].sort()) {
    const above = targets.get(parentOf(from)) ?? { path: '', isOwn: false };
    const path = joinPath(above.path, nameOf(from));
    const isOwn = above.isOwn || replaced.has(from) || emptied.has(parentOf(from));
    const isLink = !isOwn && findNode(root, path)?.target !== undefined;
    const to = isLink ? follow(root, path, isFileAt) : path;
    if (isLink) moves.push({ from, to });
    targets.set(from, { path: to, isOwn });
  }
  if (moves.length === 0) return undefined;
  return {
    moves,
    directories: directoriesOf(
      root,
      moves.map(({ to }) => to),
    ),
  };
}

/** The relevant part of a layer: its directories, explicit or implied; those it also has as something else; and those it makes opaque. */
function surveyLayer(index: LayerIndex) {
  const directories = new Set<string>();
  for (const { kind, path } of entriesOf(index)) {
    const isDirectory = kind === 'directory' || kind === 'opaque';
    for (let each = isDirectory ? path : parentOf(path); each !== '' && !directories.has(each); each = parentOf(each)) {
      directories.add(each);
    }
  }
  const replaced = new Set<string>();
  const emptied = new Set<string>();
  for (const { kind, path } of entriesOf(index)) {
    if (kind === 'opaque') emptied.add(path);
    else if (kind !== 'directory' && directories.has(path)) replaced.add(path);
  }
  return { directories, replaced, emptied };
}

function follow(root: Node, path: string, isFileAt: FileTest): string {
  const walked = walk(root, partsOf(path), () => true);
  if (!walked) throw refusal(path, 'is part of a loop');
  const target = walked.join('/');
  const above = walked.map((_, at) => walked.slice(0, at + 1).join('/'));
  // Missing directories are created, as COPY does.
  if (above.some(each => !findNode(root, each) && isFileAt(each)))
    throw refusal(path, `leads to ${readable(target)}, which is not a directory`);
  return target;
}

function directoriesOf(root: Node, targets: readonly string[]): Placement['directories'] {
  const paths = new Set<string>();
  for (const target of targets) for (let path = target; path !== ''; path = parentOf(path)) paths.add(path);
  return [...paths].sort().flatMap(path => {
    const node = findNode(root, path);
    return node ? [{ path, ...(node.attributes ?? IMPLIED) }] : [];
  });
}

/** How engines create an implied directory. */
const IMPLIED: DirectoryAttributes = { mode: 0o755, uid: 0, gid: 0, mtime: 0 };

function refusal(path: string, reason: string): RegistryError {
  return new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: a layer has entries below ${readable(path)}, a link of the image that ${reason}`,
  );
}
