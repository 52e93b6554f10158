// Reads and writes tars entry by entry with tar-stream, at the pace of their reader; and the canonical tar of a build context.
import { once } from 'node:events';
import { type Extract, extract, type Header, type Pack, pack } from 'tar-stream';
import { isCorruption } from '../../augment/unpack.ts';
import { unpackTar } from '../../augment/unpack-layer.ts';
import { type ContextLimits, type Entry, InvalidContext, type ReadonlyTree } from './tree.ts';

/**
 * Passes the bytes of a plain tar, a gzip or a zstd to `read`. Reads `body` to its end, or cancels it. Throws InvalidContext as soon as the
 * bytes are corrupt or exceed a limit, else what `read` or the body threw.
 */
export async function readUnpacked(
  body: ReadableStream<Uint8Array>,
  limits: ContextLimits,
  read: (tar: AsyncIterable<Uint8Array>) => Promise<void>,
): Promise<void> {
  const refuse = (reason: string, cause?: unknown) => new InvalidContext(`build context: ${reason}`, { cause });
  try {
    await unpackTar(body, { limits: { ...limits, maxUnpackedBytes: limits.maxBytes }, refuse, isStrict: true }, read);
  } catch (error) {
    throw isCorruption(error) ? refuse(`corrupt or truncated: ${error.message}`, error) : error;
  }
}

export interface TarEntry {
  readonly header: Readonly<Header>;
  /** To be read, or ignored, before the next entry is requested. */
  readonly body: AsyncIterable<Uint8Array>;
}

const BLOCK_BYTES = 512;

/** Throws InvalidContext, or the error of `tar`, which it reads to its end unless it throws or is returned. */
export async function* tarEntries(tar: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const archive = extract();
  let failure: { readonly error: unknown } | undefined;
  const feeding = feed(tar, archive).catch((error: unknown) => {
    failure = { error };
    archive.destroy(error instanceof Error ? error : new Error('the archive was cut off'));
  });
  const entries = archive[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await nextOf(entries, () => failure);
      if (done) break;
      yield { header: value.header, body: bytesOf(value) };
      value.resume();
    }
  } finally {
    archive.destroy();
    await feeding;
  }
}

async function nextOf<T>(
  entries: AsyncIterator<T>,
  findFailure: () => { readonly error: unknown } | undefined,
): Promise<IteratorResult<T>> {
  try {
    return await entries.next();
  } catch (cause) {
    const failure = findFailure();
    if (failure) throw failure.error;
    throw corrupt(cause instanceof Error ? cause.message : 'it cannot be read', cause);
  }
}

async function feed(tar: AsyncIterable<Uint8Array>, archive: Extract): Promise<void> {
  const closed = once(archive, 'close');
  // Whoever reads the entries gets the failure of the archive.
  closed.catch(() => {});
  let last: Uint8Array = new Uint8Array(0);
  for await (const chunk of tar) {
    last = chunk.byteLength < BLOCK_BYTES ? Buffer.concat([last, chunk]).subarray(-BLOCK_BYTES) : tail(chunk);
    if (!archive.write(chunk)) await Promise.race([once(archive, 'drain'), closed]).catch(() => {});
    if (archive.destroying) return;
  }
  // An archive that was truncated between two entries has no other sign of it.
  if (last.byteLength < BLOCK_BYTES || last.some(byte => byte !== 0)) throw corrupt('it does not end with zeros');
  archive.end(null);
}

/** Copied: the chunk's owner may overwrite it. */
function tail(chunk: Uint8Array): Uint8Array {
  return chunk.slice(-BLOCK_BYTES);
}

function corrupt(reason: string, cause?: unknown): InvalidContext {
  return new InvalidContext(`build context: corrupt or truncated tar: ${reason}`, { cause });
}

/**
 * Uncompressed and sorted, without times and owners. The caller reads it to its end or cancels it. It breaks with the error of an
 * unreadable file.
 */
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

export interface PackedEntry {
  readonly header: Partial<Header> & Pick<Header, 'name'> & { readonly mode: number };
  /** Of a file: returns exactly the header's `size` bytes, or throws. */
  readonly open?: () => AsyncIterable<Uint8Array>;
}

/** Beyond the header's bits: the library takes a mode of 0 for absent, and substitutes its own. */
const MODE_MARK = 0o100000;

/** Breaks with the error of an unreadable body. */
export async function* packEntries(entries: Iterable<PackedEntry>): AsyncGenerator<Uint8Array> {
  const archive = pack();
  const filling = fill(archive, entries).catch((error: unknown) => {
    archive.destroy(error instanceof Error ? error : new Error('the archive was cut off'));
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
    // The library never ends an empty body.
    else if (open) archive.entry(header, Buffer.alloc(0));
    else archive.entry(header);
  }
  archive.finalize();
}

async function addFile(archive: Pack, header: PackedEntry['header'], body: AsyncIterable<Uint8Array>): Promise<void> {
  const written = Promise.withResolvers<void>();
  const sink = archive.entry(header, error => (error ? written.reject(error) : written.resolve()));
  // The archive breaks with the same error, which its reader gets.
  sink.on('error', () => {});
  written.promise.catch(() => {});
  for await (const chunk of body) {
    if (!sink.write(chunk)) await Promise.race([once(sink, 'drain'), written.promise]);
  }
  sink.end(null);
  await written.promise;
}

/** The chunks of a stream whose type does not guarantee bytes. Throws TypeError for any other chunk. */
export async function* bytesOf(stream: AsyncIterable<unknown>): AsyncGenerator<Uint8Array> {
  for await (const chunk of stream) {
    if (!(chunk instanceof Uint8Array)) throw new TypeError('a stream of bytes returned something else');
    yield chunk;
  }
}
