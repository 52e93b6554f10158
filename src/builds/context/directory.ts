// A local directory as a build context, without what its .dockerignore excludes. Symlinks are not followed.
import { constants, type Dirent, type Stats } from 'node:fs';
import { lstat, open, readdir, readlink, readFile as readWhole, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { readChunk } from '../../content/byte-stream.ts';
import { createWork, type Work } from '../work.ts';
import { createPathPatterns, InvalidPathPattern, linesOf, type PathPatterns } from './path-patterns.ts';
import { bytesOf, encodeTar } from './tar.ts';
import {
  type ContextLimits,
  createTree,
  DEFAULT_CONTEXT_LIMITS,
  type Entry,
  InvalidContext,
  invalidEntry,
  type ReadonlyTree,
  type Tree,
} from './tree.ts';

interface DirectoryOptions {
  readonly limits?: ContextLimits | undefined;
  /** The name of the Containerfile in the directory, for its own ignore file. */
  readonly containerFile?: string | undefined;
}

const IGNORING = { maxSteps: 2 ** 32, what: 'the patterns of its ignore file: use fewer or simpler ones' } as const;

/**
 * The entries that are not ignored. Files are read when they are opened. Throws InvalidContext, which names the path, or the error of the
 * file system.
 */
export async function readDirectory(
  path: string,
  { limits = DEFAULT_CONTEXT_LIMITS, containerFile }: DirectoryOptions = {},
): Promise<ReadonlyTree> {
  const tree = createTree(limits);
  const rules = await readIgnoreRules(path, containerFile, createWork(IGNORING));
  await addChildren(tree, { root: path, name: '', rules });
  return tree;
}

/**
 * A tar of the entries that are not ignored. Throws InvalidContext, which names the path, or the error of the file system; a later one
 * breaks the stream. The caller reads it to its end or cancels it.
 */
export async function packDirectory(
  path: string,
  {
    gzip = false,
    ...options
  }: DirectoryOptions & {
    /** Whether to compress the tar with gzip. */
    readonly gzip?: boolean | undefined;
  } = {},
): Promise<ReadableStream<Uint8Array>> {
  const tar = encodeTar(await readDirectory(path, options));
  return gzip ? ReadableStream.from(bytesOf(Readable.fromWeb(tar).compose(createGzip()))) : tar;
}

interface Location {
  readonly root: string;
  /** Of the directory, relative to the root. */
  readonly name: string;
  readonly rules: IgnoreRules;
}

async function addChildren(tree: Tree, location: Location): Promise<void> {
  const path = join(location.root, location.name);
  const children = await readdir(path, { withFileTypes: true }).catch(refuseUnreadable(path));
  for (const child of children) await addChild(tree, location, child);
}

async function addChild(tree: Tree, { root, name: parent, rules }: Location, child: Dirent): Promise<void> {
  const name = parent === '' ? child.name : `${parent}/${child.name}`;
  const isIgnored = await rules.ignores(name);
  if (isIgnored && !(child.isDirectory() && rules.hasExceptions)) return;
  const path = join(root, name);
  // A directory with only some files included is included itself.
  if (!isIgnored) tree.add(name, await entryOf(path, await lstat(path)));
  if (child.isDirectory()) await addChildren(tree, { root, name, rules });
}

async function entryOf(path: string, stats: Stats): Promise<Entry> {
  const { mode, size } = stats;
  if (stats.isDirectory()) return { kind: 'directory', mode };
  if (stats.isSymbolicLink()) return { kind: 'symlink', target: await readlink(path) };
  if (stats.isFile())
    return {
      kind: 'file',
      mode,
      size,
      open: () => readFile(path, stats),
    };
  throw invalidEntry(path, 'a socket, fifo or device; name it in .dockerignore, or remove it');
}

async function* readFile(path: string, stats: Stats): AsyncGenerator<Uint8Array> {
  try {
    yield* readFileOf(path, stats, () => invalidEntry(path, 'it changed while it was read'));
  } catch (error) {
    refuseUnreadable(path)(error);
  }
}

function refuseUnreadable(path: string): (error: unknown) => never {
  return error => {
    const isRefused = error instanceof Error && 'code' in error && (error.code === 'EACCES' || error.code === 'EPERM');
    if (!isRefused) throw error;
    throw invalidEntry(path, 'permission denied; name it in .dockerignore, or change its mode', error);
  };
}

/**
 * The bytes of a previously examined file: exactly as many as it had, and only if it is still the same file; no link is followed. Throws
 * `changed()` otherwise.
 */
export async function* readFileOf(
  path: string,
  { dev, ino, size }: Stats,
  changed: () => Error,
): AsyncGenerator<Uint8Array> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const now = await file.stat();
    if (now.dev !== dev || now.ino !== ino || now.size !== size) throw changed();
    for (let at = 0; at < size; ) {
      const chunk = await readChunk(file, at, size);
      at += chunk.byteLength;
      yield chunk;
    }
  } finally {
    await file.close();
  }
}

export interface IgnoreRules {
  /** Rejects as PathPatterns has it. */
  ignores(name: string): Promise<boolean>;
  /** Whether something below an ignored directory may be included again. */
  readonly hasExceptions: boolean;
}

const MAX_BYTES = 1024 * 1024;

/** From `<containerFile>.dockerignore` where there is one, else from `.dockerignore`, in the directory. Throws InvalidContext. */
export async function readIgnoreRules(
  directory: string,
  containerFile: string | undefined,
  work: Work,
): Promise<IgnoreRules> {
  const own =
    containerFile === undefined ? undefined : await readRules(directory, `${containerFile}.dockerignore`, work);
  if (own === undefined) {
    const shared = (await readRules(directory, '.dockerignore', work)) ?? createPathPatterns([], work);
    return { hasExceptions: shared.hasExceptions, ignores: shared.match };
  }
  // Builders would look at it again.
  return { hasExceptions: own.hasExceptions, ignores: async name => name === '.dockerignore' || own.match(name) };
}

async function readRules(directory: string, name: string, work: Work): Promise<PathPatterns | undefined> {
  const text = await readText(join(directory, name));
  try {
    return text === undefined ? undefined : createPathPatterns(linesOf(text), work);
  } catch (cause) {
    if (!(cause instanceof InvalidPathPattern)) throw cause;
    throw new InvalidContext(`build context: ${name}: ${cause.message}`, { cause });
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    const { size } = await stat(path);
    if (size > MAX_BYTES) throw new InvalidContext(`build context: ${path}: more than ${MAX_BYTES} bytes`);
    return await readWhole(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}
