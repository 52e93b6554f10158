// A tar as it is written, entry by entry, at the pace of its reader.
import { once } from 'node:events';
import { type Header, type Pack, pack } from 'tar-stream';
import { bytesOf } from './bytes.ts';

export interface PackedEntry {
  readonly header: Partial<Header> & Pick<Header, 'name'> & { readonly mode: number };
  /** Of a file: gives exactly the header's `size` bytes, or throws. */
  readonly open?: () => AsyncIterable<Uint8Array>;
}

/** Beyond the bits that a header has: the library takes a mode of 0 for none, and gives the entry one of its own. */
const MODE_MARK = 0o100000;

/** Breaks with the error of a body that cannot be read. */
export async function* packEntries(entries: Iterable<PackedEntry>): AsyncGenerator<Uint8Array> {
  const archive = pack();
  const filling = fill(archive, entries).catch((error: unknown) => {
    archive.destroy(error instanceof Error ? error : new Error('the archive broke off'));
  });
  try {
    yield* bytesOf(archive);
  } finally {
    archive.destroy();
    await filling;
  }
}

async function fill(archive: Pack, entries: Iterable<PackedEntry>): Promise<void> {
  for (const entry of entries) {
    const { open } = entry;
    const header = { ...entry.header, mode: entry.header.mode | MODE_MARK };
    if (open && header.size !== 0) await addFile(archive, header, open());
    // Nothing ever comes from a body of no bytes.
    else if (open) archive.entry(header, Buffer.alloc(0));
    else archive.entry(header);
  }
  archive.finalize();
}

async function addFile(archive: Pack, header: PackedEntry['header'], body: AsyncIterable<Uint8Array>): Promise<void> {
  const written = Promise.withResolvers<void>();
  const sink = archive.entry(header, error => (error ? written.reject(error) : written.resolve()));
  // The archive breaks with the same error, and its reader is told: here nobody has to listen.
  sink.on('error', () => {});
  written.promise.catch(() => {});
  for await (const chunk of body) {
    if (!sink.write(chunk)) await Promise.race([once(sink, 'drain'), written.promise]);
  }
  sink.end(null);
  await written.promise;
}
