// Paths in the file system of an image: lists of components from its root, which no symlink leads out of.
import type { DirectoryNode, Node } from './node.ts';
import { InvalidStep } from './step.ts';

export type Path = readonly string[];

const MAX_LINKS = 255;
/** As Linux has it. */
const MAX_CHARACTERS = 4096;

/** The components, with `.` and empty ones gone and `..` taken back, at most to the root. Throws InvalidStep for a path that no system takes. */
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

/** The path with every symlink followed; what does not exist stays as it is. Throws InvalidStep for a circle of links. */
export function followPath(root: DirectoryNode, path: Path): Path {
  const waiting = [...path].reverse();
  let found: string[] = [];
  /** Those on the way: the root, and what each of the components is. */
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
    if (links > MAX_LINKS) throw new InvalidStep(`${formatPath(path)}: too many symlinks lead to each other`);
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

/** `..` stays: what it means depends on where the links before it lead. */
function componentsOf(target: string): string[] {
  checkLength(target);
  return target.split('/').filter(component => component !== '' && component !== '.');
}
