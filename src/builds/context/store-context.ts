// Stores a build context from any source as its canonical tar: equal files have equal digests, however they were packed.
import type { ContentStore } from '../../content/store.ts';
import type { Digest } from '../../oci/digest.ts';
import { readDirectory } from './directory.ts';
import { createSpool, type Spool } from './spool.ts';
import { encodeTar, readUnpacked, type TarEntry, tarEntries } from './tar.ts';
import {
  type ContextLimits,
  createTree,
  DEFAULT_CONTEXT_LIMITS,
  type Entry,
  type FileEntry,
  invalidEntry,
  quoteName,
  type ReadonlyTree,
} from './tree.ts';
export type ContextSource =
  /** A tar, plain or compressed with gzip or zstd. The stream is read to its end or cancelled. */
  | { readonly kind: 'tar'; readonly open: () => Promise<ReadableStream<Uint8Array>> }
  /** Text files by name. */
  | { readonly kind: 'files'; readonly files: Readonly<Record<string, string>> }
  /** A directory of this machine. */
  | DirectorySource;

interface DirectorySource {
  readonly kind: 'directory';
  readonly path: string;
  /** The name of the Containerfile in it, for its own ignore file. */
  readonly containerFile?: string | undefined;
}

/** Throws InvalidContext, or the error of the source's stream or of the store. */
export async function storeContext(
  source: ContextSource,
  content: Pick<ContentStore, 'ingest'>,
  {
    limits = DEFAULT_CONTEXT_LIMITS,
    temporaryDirectory,
  }: {
    readonly limits?: ContextLimits | undefined;
    /** Where a tar is unpacked temporarily; default: the system's temporary directory. */
    readonly temporaryDirectory?: string | undefined;
  } = {},
): Promise<{ readonly digest: Digest; readonly size: number }> {
  const keep = async (tree: ReadonlyTree) => await content.ingest(encodeTar(tree)).done;
  switch (source.kind) {
    case 'files':
      return keep(treeOfTexts(source.files, limits));
    case 'directory':
      return keep(await readDirectory(source.path, { limits, containerFile: source.containerFile }));
    case 'tar': {
      const spool = await createSpool(temporaryDirectory);
      try {
        return await keep(await readTar(await source.open(), spool, limits));
      } finally {
        await spool.close();
      }
    }
  }
}

function treeOfTexts(files: Readonly<Record<string, string>>, limits: ContextLimits): ReadonlyTree {
  const tree = createTree(limits);
  for (const [name, text] of Object.entries(files)) {
    const bytes = Buffer.from(text);
    tree.add(name, { kind: 'file', mode: 0o644, size: bytes.byteLength, open: () => streamOf(bytes) });
  }
  return tree;
}

async function* streamOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/**
 * A received tar as a tree; rejects entries that a context cannot have. The files can be opened as long as the spool is open. Reads `body`
 * to its end or cancels it. Throws InvalidContext, or the body's error.
 */
async function readTar(body: ReadableStream<Uint8Array>, spool: Spool, limits: ContextLimits): Promise<ReadonlyTree> {
  const tree = createTree(limits);
  await readUnpacked(body, limits, async tar => {
    for await (const entry of tarEntries(tar)) tree.add(entry.header.name, await readEntry(entry, tree, spool));
  });
  return tree;
}

async function readEntry({ header, body }: TarEntry, tree: ReadonlyTree, spool: Spool): Promise<Entry> {
  const { name, mode, size } = header;
  const kind = kindOf(header);
  // Readers disagree on whether such an entry has bytes.
  if (kind !== 'file' && size !== 0) throw invalidEntry(name, 'it has content, but is not a file');
  if (isSparse(header)) throw invalidEntry(name, 'it is a sparse file');
  switch (kind) {
    case 'directory':
      return { kind, mode };
    case 'symlink':
      return { kind, target: header.linkname ?? '' };
    case 'link':
      return findLinked(tree, name, header.linkname ?? '');
    case 'file':
      return { kind, mode, size, open: await spool.append(body) };
  }
}

function kindOf({ name, type }: TarEntry['header']): Entry['kind'] | 'link' {
  switch (type) {
    case 'directory':
    case 'symlink':
    case 'link':
      return type;
    case 'file':
    case 'contiguous-file':
      // Old writers mark a directory only by its trailing slash.
      return name.endsWith('/') ? 'directory' : 'file';
    case 'character-device':
    case 'block-device':
    case 'fifo':
      throw invalidEntry(name, `it is a ${type.replace('-', ' ')}; expected files, directories and links`);
    default:
      throw invalidEntry(name, 'it is of an unknown type; expected files, directories and links');
  }
}

function isSparse({ pax }: TarEntry['header']): boolean {
  return pax instanceof Object && Object.keys(pax).some(key => key.startsWith('GNU.sparse'));
}

/** A hard link becomes a separate file: shared bytes are not part of a context. */
function findLinked(tree: ReadonlyTree, name: string, target: string): FileEntry {
  const linked = tree.find(target);
  if (linked?.kind === 'file') return linked;
  throw invalidEntry(name, `it is a hard link to ${quoteName(target)}, which is not a file that comes before it`);
}
