// A file system that changes, and remembers what has changed: the next layer.
import { type Attributes, type DirectoryNode, emptyDirectory, type Node } from './node.ts';
import { findNode, formatPath, type Path } from './path.ts';
import { InvalidStep } from './step.ts';

export interface Draft {
  /** As it is now, until the next change: only what the draft began with stays as it was. */
  readonly root: DirectoryNode;
  /** Puts a node, in place of what is there; all above it must be directories. A directory keeps the children that are there. */
  put(path: Path, node: Node): void;
  remove(path: Path): void;
  /** Makes those that are missing, with the given attributes. Throws InvalidStep where something else is in the way. */
  makeDirectories(path: Path, attributes: Partial<Attributes>): void;
  /** All that was put, with the directories above, parents first. A path that was removed is not in it. */
  changes(): readonly Change[];
}

export interface Change {
  readonly path: Path;
  readonly node: Node;
}

/** Names that mean something else in a layer. */
const WHITEOUT = '.wh.';

export function createDraft(start: DirectoryNode): Draft {
  let root = start;
  const owned = new WeakMap<DirectoryNode, Map<string, Node>>();
  const changed = new Map<string, Path>();

  function edit(path: Path, change: (children: Map<string, Node>, name: string) => void): void {
    const name = path.at(-1);
    if (name === undefined) return;
    root = editBelow(root, path, children => change(children, name));
  }

  /** A directory of the start is copied at its first change, and then it is the draft's own. */
  function editBelow(directory: DirectoryNode, path: Path, work: (children: Map<string, Node>) => void): DirectoryNode {
    const own = owned.get(directory);
    const children = own ?? new Map(directory.children);
    const [first, ...rest] = path;
    if (first === undefined || rest.length === 0) work(children);
    else {
      const child = children.get(first);
      if (child?.kind !== 'directory') throw new InvalidStep(`${first} is no directory`);
      children.set(first, editBelow(child, rest, work));
    }
    return own ? directory : adopt(directory, children);
  }

  function adopt(directory: DirectoryNode, children: Map<string, Node>): DirectoryNode {
    const copy = { ...directory, children };
    owned.set(copy, children);
    return copy;
  }

  const draft: Draft = {
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
        if (node) throw new InvalidStep(`${formatPath(part)} is no directory`);
        draft.put(part, { ...emptyDirectory, ...attributes });
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
  return draft;
}

function comparePaths(a: Path, b: Path): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const [x = '', y = ''] = [a[i], b[i]];
    if (x !== y) return x < y ? -1 : 1;
  }
  return a.length - b.length;
}
