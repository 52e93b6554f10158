// The files of a build context by name, whatever their source: additions are checked against the limits, and no name or symlink leads out
// of it.

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
  /** Returns exactly `size` bytes, or throws. May be called again. */
  open(): AsyncIterable<Uint8Array>;
}

export type ReadonlyTree = Pick<Tree, 'list' | 'find'>;

export interface Tree {
  /** Throws InvalidContext for an invalid name or entry, or beyond a limit. The root itself is skipped. */
  add(name: string, entry: Entry): void;
  /** The current entry. The name is given as for `add`. */
  find(name: string): Entry | undefined;
  /** Sorted: a directory precedes its contents. Implied directories are included. */
  list(): readonly (readonly [name: string, entry: Entry])[];
}

export interface ContextLimits {
  /** Of a tar as received. */
  readonly maxPackedBytes: number;
  /** Of an unpacked tar, and of all files together. */
  readonly maxBytes: number;
  /** Directories count too, including implied ones. */
  readonly maxEntries: number;
  /** The maximum nesting of directories. */
  readonly maxDepth: number;
  /** Maximum ratio of unpacked to packed bytes; checked only beyond `ratioFreeBytes` of unpacked bytes. */
  readonly maxRatio: number;
  readonly ratioFreeBytes: number;
}

const MIB = 1024 * 1024;

export const DEFAULT_CONTEXT_LIMITS: ContextLimits = {
  maxPackedBytes: 1024 * MIB,
  maxBytes: 2048 * MIB,
  maxEntries: 100_000,
  maxDepth: 64,
  maxRatio: 200,
  ratioFreeBytes: 64 * MIB,
};

const IMPLIED: Entry = { kind: 'directory', mode: 0o755 };

/** All twelve bits: unreadable files are reported, not silently changed. */
const MODE = 0o7777;

export function createTree({ maxBytes, maxEntries, maxDepth }: ContextLimits): Tree {
  const entries = new Map<string, Entry>();
  let bytes = 0;

  function set(name: string, entry: Entry): void {
    const before = entries.get(name);
    if (before && (before.kind === 'directory') !== (entry.kind === 'directory')) {
      throw invalidEntry(name, 'it is both a directory and something else');
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

/** In bytes: the limit of file systems, and of memory per name. */
const MAX_NAME_BYTES = 1024;

const MAX_COMPONENT_BYTES = 255;

/**
 * The components of a name, without redundant ones (`.` and empty); none: the root of the context. Throws InvalidContext for a name that is
 * absolute, climbs, is not text, or is too long.
 */
export function parseEntryName(name: string): readonly string[] {
  checkText(name, 'name', name);
  if (name.startsWith('/')) throw invalidEntry(name, 'its name is absolute; expected one relative to the context');
  const components = componentsOf(name);
  if (components.includes('..')) throw invalidEntry(name, 'its name has ".."');
  return components;
}

/**
 * Throws InvalidContext for a symlink that is absolute or leads out of the context. Builders differ in which links they follow, and one
 * that followed such a link would read this machine's files. A target may climb only at its start: from there on it only passes directories
 * and links of the context, each of which stays inside, so that no chain of links leads out either.
 */
export function checkSymlink(components: readonly string[], target: string): void {
  const name = components.join('/');
  if (target === '') throw invalidEntry(name, 'the symlink has no target');
  checkText(name, 'target', target);
  if (target.startsWith('/'))
    throw invalidEntry(name, 'the symlink is absolute; expected one that stays in the context');
  const steps = componentsOf(target);
  const climbs = steps.findIndex(step => step !== '..');
  const climbed = climbs === -1 ? steps.length : climbs;
  if (steps.slice(climbed).includes('..'))
    throw invalidEntry(name, 'the symlink has ".." after the start of its target');
  if (climbed > components.length - 1) throw invalidEntry(name, 'the symlink leads out of the context');
}

function componentsOf(path: string): readonly string[] {
  return path.split('/').filter(component => component !== '' && component !== '.');
}

function checkText(name: string, what: 'name' | 'target', text: string): void {
  if (text.includes('\0')) throw invalidEntry(name, `its ${what} has a NUL character`);
  // A tar's bytes that are not UTF-8 arrive as U+FFFD: two names could become one.
  if (!text.isWellFormed() || text.includes('\ufffd')) throw invalidEntry(name, `its ${what} is not UTF-8`);
  if (Buffer.byteLength(text) > MAX_NAME_BYTES)
    throw invalidEntry(name, `its ${what} has more than ${MAX_NAME_BYTES} bytes`);
  if (componentsOf(text).some(component => Buffer.byteLength(component) > MAX_COMPONENT_BYTES)) {
    throw invalidEntry(name, `a part of its ${what} has more than ${MAX_COMPONENT_BYTES} bytes`);
  }
}

/** The context cannot be used. The message names the entry and the rule, and contains no secret. */
export class InvalidContext extends Error {
  override readonly name = 'InvalidContext';
}

/** What is wrong with one entry. */
export function invalidEntry(name: string, reason: string, cause?: unknown): InvalidContext {
  return new InvalidContext(`build context: ${quoteName(name)}: ${reason}`, { cause });
}

const MAX_SHOWN = 160;

/** A name for display: it is foreign, and may contain anything. */
export function quoteName(name: string): string {
  const shown = name.length > MAX_SHOWN ? `${name.slice(0, MAX_SHOWN)}…` : name;
  return JSON.stringify(shown.toWellFormed());
}
