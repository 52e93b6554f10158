// A root file system as far as its links go, made of the indexes of an image's layers: it tells where a layer on top of these belongs.
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

/** A root file system as far as links and directories go, which layers are put on. */
interface LinkTree {
  /** Puts a layer on it, placed or as it is. One after the other; of a large one others get their turns in between. */
  add(layer: LayerIndex, placement?: Placement): Promise<void>;
  /**
   * How the layer's entries are placed on it; undefined where they stay where they are. Throws MANIFEST_INVALID for links that lead in a
   * circle, or to what is no directory.
   */
  place(layer: LayerIndex): Placement | undefined;
}

/** A link, or a directory. Files are many, and have no node. */
interface Node {
  /** Of a link. */
  target?: string;
  /** Of a directory that has a member of its own. */
  attributes?: DirectoryAttributes;
  /** Which of the layers has made it what it is. */
  layer: number;
  children?: Map<string, Node>;
}

/** As many as Linux follows. */
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

/** The topmost layer that says anything of it decides, and in it the last word. */
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
 * What a layer has. Its own links are followed, as engines do in a layer that they unpack by itself; a link of those below is hidden. Most of its
 * entries are files, and in the directory of the one before.
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

/** Undefined where the layer's own links lead in a circle. */
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

/** Where the parts lead from the root, through the links that are followed; undefined for a circle. */
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
  /** Of each directory of the layer, where it is in the image; undefined below what the layer itself puts there. */
  const places = new Map<string, { readonly path: string; readonly isOwn: boolean }>([
    ['', { path: '', isOwn: false }],
  ]);
  const moves: { from: string; to: string }[] = [];
  // Sorted, what is above comes before what is below.
  for (const from of [...directories].sort()) {
    const above = places.get(parentOf(from)) ?? { path: '', isOwn: false };
    const path = joinPath(above.path, nameOf(from));
    const isOwn = above.isOwn || replaced.has(from) || emptied.has(parentOf(from));
    const isLink = !isOwn && findNode(root, path)?.target !== undefined;
    const to = isLink ? follow(root, path, isFileAt) : path;
    if (isLink) moves.push({ from, to });
    places.set(from, { path: to, isOwn });
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

/** What matters of a layer: its directories, whether they have members or not; those that it has as something else, too; and those that it empties. */
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
  if (!walked) throw refusal(path, 'leads in a circle');
  const target = walked.join('/');
  const above = walked.map((_, at) => walked.slice(0, at + 1).join('/'));
  // Where there is nothing at all, directories will be made, as COPY makes them.
  if (above.some(each => !findNode(root, each) && isFileAt(each)))
    throw refusal(path, `leads to ${readable(target)}, which is no directory`);
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

/** How engines make a directory that has no member of its own. */
const IMPLIED: DirectoryAttributes = { mode: 0o755, uid: 0, gid: 0, mtime: 0 };

function refusal(path: string, reason: string): RegistryError {
  return new RegistryError(
    'MANIFEST_INVALID',
    `the image cannot be augmented: a layer has something below ${readable(path)}, a link of the image that ${reason}`,
  );
}
