// The canonical tar of a tree: uncompressed, sorted, of no time and no owner.
import { type PackedEntry, packEntries } from './pack-entries.ts';
import type { Entry, ReadonlyTree } from './tree.ts';

/** The caller reads it to its end or cancels it. It breaks with the error of a file that cannot be read. */
export function encodeTar(tree: ReadonlyTree): ReadableStream<Uint8Array> {
  return ReadableStream.from(packEntries(tree.list().map(([name, entry]) => packed(name, entry))));
}

function packed(name: string, entry: Entry): PackedEntry {
  const common = { name, uid: 0, gid: 0, mtime: new Date(0) };
  switch (entry.kind) {
    case 'directory':
      return { header: { ...common, type: 'directory', mode: entry.mode } };
    case 'symlink':
      return { header: { ...common, type: 'symlink', mode: 0o777, linkname: entry.target } };
    case 'file':
      return { header: { ...common, type: 'file', mode: entry.mode, size: entry.size }, open: () => entry.open() };
  }
}
