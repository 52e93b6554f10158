// A tar that somebody sent, as a tree: its bytes go nowhere but to the spool, and whatever a context cannot have is refused.
import { invalidEntry, quoteName } from './invalid-context.ts';
import type { ContextLimits } from './limits.ts';
import type { Spool } from './spool.ts';
import { type TarEntry, tarEntries } from './tar-entries.ts';
import { createTree, type Entry, type FileEntry, type ReadonlyTree } from './tree.ts';
import { readUnpacked } from './unpacked.ts';

/** The files can be opened as long as the spool is open. Reads `body` to its end or cancels it. Throws InvalidContext, or the body's error. */
export async function readTar(
  body: ReadableStream<Uint8Array>,
  spool: Spool,
  limits: ContextLimits,
): Promise<ReadonlyTree> {
  const tree = createTree(limits);
  await readUnpacked(body, limits, async tar => {
    for await (const entry of tarEntries(tar)) tree.add(entry.header.name, await readEntry(entry, tree, spool));
  });
  return tree;
}

async function readEntry({ header, body }: TarEntry, tree: ReadonlyTree, spool: Spool): Promise<Entry> {
  const { name, mode, size } = header;
  const kind = kindOf(header);
  // Some readers give such an entry bytes, and some none.
  if (kind !== 'file' && size !== 0) throw invalidEntry(name, 'it has bytes, and is no file');
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
      // Old writers tell a directory by its slash alone.
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

/** A hard link becomes a file of its own: whether two names share their bytes is no part of a context. */
function findLinked(tree: ReadonlyTree, name: string, target: string): FileEntry {
  const linked = tree.find(target);
  if (linked?.kind === 'file') return linked;
  throw invalidEntry(name, `it is a hard link to ${quoteName(target)}, which is no file before it`);
}
