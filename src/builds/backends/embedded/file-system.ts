// The file system of an image as metadata: bodies stay in place, and are opened when they are copied. A change creates a new tree, and the
// changes become the next layer.
import { InvalidStep } from './step.ts';

export type Node = Leaf | DirectoryNode;

export interface DirectoryNode extends Attributes {
  readonly kind: 'directory';
  readonly children: ReadonlyMap<string, Node>;
}

export interface Attributes {
  /** Permissions with set-id and sticky bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** In seconds. */
  readonly mtime: number;
  /** Extended attributes as PAX records, `SCHILY.xattr.…`. */
  readonly xattrs: Readonly<Record<string, string>>;
}

/** A node without children; immutable, only replaced. */
export type Leaf = FileNode | LinkNode | DeviceNode;

export interface FileNode extends Attributes {
  readonly kind: 'file';
  readonly size: number;
  readonly open: () => AsyncIterable<Uint8Array>;
}

interface LinkNode extends Attributes {
  readonly kind: 'symlink';
  readonly target: string;
}

interface DeviceNode extends Attributes {
  readonly kind: 'character-device' | 'block-device' | 'fifo';
  readonly major: number;
  readonly minor: number;
}

const NEW: Attributes = { mode: 0o755, uid: 0, gid: 0, mtime: 0, xattrs: {} };

export const emptyDirectory: DirectoryNode = { ...NEW, kind: 'directory', children: new Map() };

/** A file owned by root whose bytes are in memory. */
export function createFile(content: Uint8Array, mode: number): FileNode {
  return { ...NEW, kind: 'file', mode, size: content.byteLength, open: () => once(content) };
}

async function* once(content: Uint8Array): AsyncGenerator<Uint8Array> {
  if (content.byteLength > 0) yield content;
}

/** Components from the root of an image, which no symlink leaves. */
export type Path = readonly string[];

const MAX_LINKS = 255;

/** As Linux has it. */
const MAX_CHARACTERS = 4096;

/**
 * The components, with `.` and empty ones removed and `..` resolved, at most up to the root. Throws InvalidStep for a path that no system
 * accepts.
 */
export function splitPath(text: string): Path {
  checkLength(text);
  const path: string[] = [];
  for (const component of text.split('/')) {
    if (component === '..') path.pop();
    else if (component !== '' && component !== '.') path.push(component);
  }
  return path;
}

export function formatPath(path: Path): string {
  return `/${path.join('/')}`;
}

/** Without following symlinks. */
export function findNode(root: DirectoryNode, path: Path): Node | undefined {
  let node: Node | undefined = root;
  for (const component of path) {
    if (node?.kind !== 'directory') return undefined;
    node = node.children.get(component);
  }
  return node;
}

/** The path with every symlink followed; missing parts are left as they are. Throws InvalidStep for a loop of links. */
export function followPath(root: DirectoryNode, path: Path): Path {
  const waiting = [...path].reverse();
  let found: string[] = [];
  /** The nodes on the way: the root, and each of the components. */
  let nodes: (Node | undefined)[] = [root];
  let links = 0;
  for (let component = waiting.pop(); component !== undefined; component = waiting.pop()) {
    if (component === '..') {
      if (found.pop() !== undefined) nodes.pop();
      continue;
    }
    const parent = nodes.at(-1);
    const node = parent?.kind === 'directory' ? parent.children.get(component) : undefined;
    if (node?.kind !== 'symlink') {
      found.push(component);
      nodes.push(node);
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) throw new InvalidStep(`${formatPath(path)}: too many levels of symlinks`);
    if (node.target.startsWith('/')) [found, nodes] = [[], [root]];
    waiting.push(...componentsOf(node.target).reverse());
  }
  return found;
}

function checkLength(text: string): void {
  if (text.length <= MAX_CHARACTERS) return;
  throw new InvalidStep(
    `the path ${JSON.stringify(`${text.slice(0, 80)}…`)} has more than ${MAX_CHARACTERS} characters`,
  );
}

/** `..` is preserved: its meaning depends on the links before it. */
function componentsOf(target: string): string[] {
  checkLength(target);
  return target.split('/').filter(component => component !== '' && component !== '.');
}

/** A mutable root file system that tracks its changes: the next layer. */
export interface Rootfs {
  /** Valid until the next change: only the initial tree is immutable. */
  readonly root: DirectoryNode;
  /** Adds or replaces a node; all its parents must be directories. A directory keeps its existing children. */
  put(path: Path, node: Node): void;
  remove(path: Path): void;
  /** Creates the missing ones, with the given attributes. Throws InvalidStep where something else is in the way. */
  makeDirectories(path: Path, attributes: Partial<Attributes>): void;
  /** Everything that was put, with its parent directories, parents first. Removed paths are not included. */
  changes(): readonly Change[];
}

export interface Change {
  readonly path: Path;
  readonly node: Node;
}

/** Names with a special meaning in layers. */
const WHITEOUT = '.wh.';

export function createRootfs(start: DirectoryNode): Rootfs {
  let root = start;
  const owned = new WeakMap<DirectoryNode, Map<string, Node>>();
  const changed = new Map<string, Path>();

  function edit(path: Path, change: (children: Map<string, Node>, name: string) => void): void {
    const name = path.at(-1);
    if (name === undefined) return;
    root = editBelow(root, path, children => change(children, name));
  }

  /** A directory of the initial tree is copied on its first change. */
  function editBelow(directory: DirectoryNode, path: Path, work: (children: Map<string, Node>) => void): DirectoryNode {
    const own = owned.get(directory);
    const children = own ?? new Map(directory.children);
    const [first, ...rest] = path;
    if (first === undefined || rest.length === 0) work(children);
    else {
      const child = children.get(first);
      if (child?.kind !== 'directory') throw new InvalidStep(`${first} is not a directory`);
      children.set(first, editBelow(child, rest, work));
    }
    return own ? directory : adopt(directory, children);
  }

  function adopt(directory: DirectoryNode, children: Map<string, Node>): DirectoryNode {
    const copy = { ...directory, children };
    owned.set(copy, children);
    return copy;
  }

  const rootfs: Rootfs = {
    get root() {
      return root;
    },
    put(path, node) {
      if (path.some(component => component.startsWith(WHITEOUT))) {
        throw new InvalidStep(`${formatPath(path)}: a name that begins with ${WHITEOUT} cannot be in an image`);
      }
      const before = findNode(root, path);
      const kept = before?.kind === 'directory' ? before.children : undefined;
      const placed = node.kind === 'directory' ? adopt(node, kept ? new Map(kept) : new Map()) : node;
      if (path.length === 0 && placed.kind === 'directory') root = placed;
      else edit(path, (children, name) => children.set(name, placed));
      if (path.length > 0) changed.set(path.join('/'), path);
    },
    remove(path) {
      edit(path, (children, name) => children.delete(name));
    },
    makeDirectories(path, attributes) {
      let node: Node | undefined = root;
      for (const [depth, component] of path.entries()) {
        node = node?.kind === 'directory' ? node.children.get(component) : undefined;
        if (node?.kind === 'directory') continue;
        const part = path.slice(0, depth + 1);
        if (node) throw new InvalidStep(`${formatPath(part)} is not a directory`);
        rootfs.put(part, { ...emptyDirectory, ...attributes });
      }
    },
    changes() {
      const paths = new Map<string, Path>();
      for (const path of changed.values()) {
        for (let length = 1; length <= path.length; length += 1)
          paths.set(path.slice(0, length).join('/'), path.slice(0, length));
      }
      return [...paths.values()].sort(comparePaths).flatMap(path => {
        const node = findNode(root, path);
        return node ? [{ path, node }] : [];
      });
    },
  };
  return rootfs;
}

function comparePaths(a: Path, b: Path): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const [x = '', y = ''] = [a[i], b[i]];
    if (x !== y) return x < y ? -1 : 1;
  }
  return a.length - b.length;
}
