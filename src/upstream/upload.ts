// The upload of one blob: a session, and in it the bytes, as one piece or in chunks. distribution-spec "Pushing blobs".
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import type { Digest } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import type { Dialer } from './dialer.ts';
import { badAnswer } from './failure.ts';
import type { PushedBlob } from './pusher.ts';
import { requireSuccess } from './request.ts';
import { requireStored } from './stored.ts';
import type { Writes } from './write.ts';

const CONTENT = { 'content-type': 'application/octet-stream' };
const CHUNK_BYTES = 8 * 1024 * 1024;
const MAX_CHUNK_BYTES = 64 * 1024 * 1024;
/** What a registry, or a proxy before it, says that takes no blob in one piece. */
const WANTS_CHUNKS: readonly number[] = [405, 413];

interface Upload {
  readonly writes: Writes;
  /** Decides how often an upload that broke begins anew. */
  readonly dialer: Dialer;
  readonly signal: AbortSignal | undefined;
}

/** Throws RegistryError, or the signal's reason. */
export async function uploadBlob(upload: Upload, blob: PushedBlob): Promise<void> {
  try {
    await putWhole(upload, blob);
  } catch (error) {
    if (!(error instanceof RegistryError && WANTS_CHUNKS.includes(error.status))) throw error;
    await putInChunks(upload, blob);
  }
}

interface Session {
  readonly address: URL;
  /** The least that a chunk before the last must have. */
  readonly minChunkBytes: number;
}

async function start({ addressOf, write, parseSession, attempt }: Writes): Promise<Session> {
  const from = addressOf('blobs/uploads/');
  const { headers } = await write(from, { method: 'POST' });
  const minChunkBytes = Number(headers['oci-chunk-min-length'] ?? 0);
  if (!(minChunkBytes <= MAX_CHUNK_BYTES)) throw badAnswer(attempt, `it wants chunks of over ${MAX_CHUNK_BYTES} bytes`);
  return { address: parseSession(headers.location, from), minChunkBytes };
}

/** An upload that broke has taken an unknown part of the bytes: the next try has a session of its own. */
async function putWhole({ writes, dialer, signal }: Upload, { digest, size, open }: PushedBlob): Promise<void> {
  const headers = { ...CONTENT, 'content-length': `${size}` };
  const body = async () => Readable.from(await open(), { objectMode: false });
  await writes.attempting(async () => {
    const response = await dialer.repeat(async () => {
      const { address } = await start(writes);
      return writes.send(withDigest(address, digest), { method: 'PUT', headers, body });
    }, signal);
    await finish(await requireSuccess(response, writes.attempt), digest, writes);
  });
}

async function putInChunks({ writes }: Upload, { digest, open }: PushedBlob): Promise<void> {
  let { address, minChunkBytes } = await start(writes);
  let position = 0;
  await writes.attempting(async () => {
    for await (const chunk of chunksOf(await open(), Math.max(CHUNK_BYTES, minChunkBytes))) {
      const headers = { ...CONTENT, 'content-range': `${position}-${position + chunk.byteLength - 1}` };
      const { headers: answer } = await writes.write(address, { method: 'PATCH', headers, body: chunk });
      address = writes.parseSession(answer.location, address);
      position += chunk.byteLength;
    }
    const response = await writes.write(withDigest(address, digest), { method: 'PUT' });
    requireStored(response, digest, writes.attempt);
  });
}

async function finish(response: Dispatcher.ResponseData, digest: Digest, { attempt }: Writes): Promise<void> {
  await response.body.dump();
  requireStored(response, digest, attempt);
}

/** The query that is there is the registry's own, and may be signed: not a character of it changes. */
function withDigest(address: URL, digest: Digest): URL {
  const url = new URL(address);
  url.search = `${url.search ? `${url.search}&` : '?'}digest=${encodeURIComponent(digest)}`;
  return url;
}

/** All of `size` bytes, but for the last. */
async function* chunksOf(body: ReadableStream<Uint8Array>, size: number): AsyncGenerator<Uint8Array> {
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (let piece of body) {
    while (bytes + piece.byteLength >= size) {
      const rest = piece.subarray(size - bytes);
      yield Buffer.concat([...pieces, piece.subarray(0, size - bytes)]);
      pieces = [];
      bytes = 0;
      piece = rest;
    }
    pieces.push(piece);
    bytes += piece.byteLength;
  }
  if (bytes > 0) yield Buffer.concat(pieces);
}
