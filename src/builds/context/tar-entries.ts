// The entries of a tar as they come, read by tar-stream: everything that is wrong with the archive itself is an InvalidContext.
import { once } from 'node:events';
import { type Extract, extract, type Header } from 'tar-stream';
import { bytesOf } from './bytes.ts';
import { InvalidContext } from './invalid-context.ts';

export interface TarEntry {
  readonly header: Readonly<Header>;
  /** To be read, or left alone, before the next entry is asked for. */
  readonly body: AsyncIterable<Uint8Array>;
}

const BLOCK_BYTES = 512;

/** Throws InvalidContext, or the error of `tar`, which it reads to its end unless it throws or is left. */
export async function* tarEntries(tar: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const archive = extract();
  let failure: { readonly error: unknown } | undefined;
  const feeding = feed(tar, archive).catch((error: unknown) => {
    failure = { error };
    archive.destroy(error instanceof Error ? error : new Error('the archive broke off'));
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
  // A failure of the archive is told to who reads its entries.
  closed.catch(() => {});
  let last: Uint8Array = new Uint8Array(0);
  for await (const chunk of tar) {
    last = chunk.byteLength < BLOCK_BYTES ? Buffer.concat([last, chunk]).subarray(-BLOCK_BYTES) : tail(chunk);
    if (!archive.write(chunk)) await Promise.race([once(archive, 'drain'), closed]).catch(() => {});
    if (archive.destroying) return;
  }
  // An archive that was cut between two entries has no other sign of it.
  if (last.byteLength < BLOCK_BYTES || last.some(byte => byte !== 0)) throw corrupt('it does not end with zeros');
  archive.end(null);
}

/** A copy: the chunk's owner may write to it again. */
function tail(chunk: Uint8Array): Uint8Array {
  return chunk.slice(-BLOCK_BYTES);
}

function corrupt(reason: string, cause?: unknown): InvalidContext {
  return new InvalidContext(`build context: corrupt or truncated tar: ${reason}`, { cause });
}
