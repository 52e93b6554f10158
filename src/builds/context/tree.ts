// The files of a build context by their names, whatever they came as: what is added is checked, and the last of equal names wins.
import { checkSymlink, parseEntryName } from './entry-name.ts';
import { InvalidContext, invalidEntry, quoteName } from './invalid-context.ts';
import type { ContextLimits } from './limits.ts';

export type Entry =
  | { readonly kind: 'directory'; readonly mode: number }
  | { readonly kind: 'symlink'; readonly target: string }
  | FileEntry;

export interface FileEntry {
  readonly kind: 'file';
  /** Permissions with set-id and sticky bits, as of a directory. */
  readonly mode: number;
  /** In bytes. */
  readonly size: number;
  /** Gives exactly `size` bytes, or throws. May be called again. */
  open(): AsyncIterable<Uint8Array>;
}

export type ReadonlyTree = Pick<Tree, 'list' | 'find'>;

export interface Tree {
  /** Throws InvalidContext where name or entry break a rule, or a limit is reached. The root itself is skipped. */
  add(name: string, entry: Entry): void;
  /** As it is now. Takes the name as `add` does. */
  find(name: string): Entry | undefined;
  /** Sorted: a directory comes before what is in it. Directories that were only implied are there too. */
  list(): readonly (readonly [name: string, entry: Entry])[];
}

const IMPLIED: Entry = { kind: 'directory', mode: 0o755 };
/** All twelve: who cannot read such a file says so, and makes no other of it. */
const MODE = 0o7777;

export function createTree({ maxBytes, maxEntries, maxDepth }: ContextLimits): Tree {
  const entries = new Map<string, Entry>();
  let bytes = 0;

  function set(name: string, entry: Entry): void {
    const before = entries.get(name);
    if (before && (before.kind === 'directory') !== (entry.kind === 'directory')) {
      throw invalidEntry(name, 'it is a directory and something else at once');
    }
    entries.set(name, entry);
    bytes += sizeOf(entry) - sizeOf(before);
    if (entries.size > maxEntries) throw new InvalidContext(`build context: more than ${maxEntries} entries`);
    if (bytes > maxBytes) throw new InvalidContext(`build context: its files have more than ${maxBytes} bytes`);
  }

  /** Every directory on the way to it. */
  function addParents(components: readonly string[]): void {
    for (let depth = 1; depth < components.length; depth += 1) {
      const parent = components.slice(0, depth).join('/');
      const found = entries.get(parent);
      if (found === undefined) set(parent, IMPLIED);
      else if (found.kind !== 'directory') {
        throw invalidEntry(components.join('/'), `it lies below ${quoteName(parent)}, which is a ${found.kind}`);
      }
    }
  }

  return {
    add(name, entry) {
      const components = parseEntryName(name);
      if (components.length === 0) return checkRoot(entry);
      if (entry.kind !== 'directory' && name.endsWith('/')) {
        throw invalidEntry(name, `a ${entry.kind} with the name of a directory`);
      }
      if (components.length > maxDepth) {
        throw invalidEntry(name, `it lies deeper than ${maxDepth} directories`);
      }
      if (entry.kind === 'symlink') checkSymlink(components, entry.target);
      addParents(components);
      set(components.join('/'), withMode(entry));
    },
    find: name => entries.get(parseEntryName(name).join('/')),
    list: () => [...entries].sort(([a], [b]) => (a < b ? -1 : 1)),
  };
}

function checkRoot(entry: Entry): void {
  if (entry.kind !== 'directory') throw new InvalidContext(`build context: a ${entry.kind} without a name`);
}

function withMode(entry: Entry): Entry {
  return entry.kind === 'symlink' ? entry : { ...entry, mode: entry.mode & MODE };
}

function sizeOf(entry: Entry | undefined): number {
  return entry?.kind === 'file' ? entry.size : 0;
}
