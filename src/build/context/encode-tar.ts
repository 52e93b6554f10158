// The canonical tar of a tree: uncompressed, sorted, of no time and no owner.
import { once } from 'node:events';
import { type Header, type Pack, pack } from 'tar-stream';
import { bytesOf } from './bytes.ts';
import type { Entry, FileEntry, ReadonlyTree } from './tree.ts';

type EntryHeader = Partial<Header> & Pick<Header, 'name'>;

/** The caller reads it to its end or cancels it. It breaks with the error of a file that cannot be read. */
export function encodeTar(tree: ReadonlyTree): ReadableStream<Uint8Array> {
  return ReadableStream.from(encode(tree));
}

async function* encode(tree: ReadonlyTree): AsyncGenerator<Uint8Array> {
  const archive = pack();
  const filling = fill(archive, tree).catch((error: unknown) => {
    archive.destroy(error instanceof Error ? error : new Error('the archive broke off'));
  });
  try {
    yield* bytesOf(archive);
  } finally {
    archive.destroy();
    await filling;
  }
}

async function fill(archive: Pack, tree: ReadonlyTree): Promise<void> {
  for (const [name, entry] of tree.list()) {
    const header = { name, uid: 0, gid: 0, mtime: new Date(0), ...ofKind(entry) };
    if (entry.kind === 'file') await addFile(archive, header, entry);
    else archive.entry(header);
  }
  archive.finalize();
}

function ofKind(entry: Entry): Partial<Header> {
  switch (entry.kind) {
    case 'directory':
      return { type: 'directory', mode: entry.mode };
    case 'symlink':
      return { type: 'symlink', mode: 0o777, linkname: entry.target };
    case 'file':
      return { type: 'file', mode: entry.mode, size: entry.size };
  }
}

async function addFile(archive: Pack, header: EntryHeader, file: FileEntry): Promise<void> {
  const written = Promise.withResolvers<void>();
  const sink = archive.entry(header, error => (error ? written.reject(error) : written.resolve()));
  // The archive breaks with the same error, and its reader is told: here nobody has to listen.
  sink.on('error', () => {});
  written.promise.catch(() => {});
  for await (const chunk of file.open()) {
    if (!sink.write(chunk)) await Promise.race([once(sink, 'drain'), written.promise]);
  }
  sink.end(null);
  await written.promise;
}
