// A directory or a file of this machine as the bytes that are sent of it.
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream, openAsBlob } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { InvalidLayerDirectory } from '../builds/context/layer-directory.ts';
import { InvalidContext } from '../builds/context/tree.ts';
import { encodeDigest } from '../oci/digest.ts';
import type { UploadedBlob } from './service/upload.ts';

/** A directory as a tar: the same files give the same bytes. */
type PackDirectory = (directory: string) => Promise<ReadableStream<Uint8Array>>;

/** What is to be sent is not there, or neither a file nor a directory. */
export class NothingToSend extends Error {
  override readonly name = 'NothingToSend';
}

/** A directory is packed with gzip into a file of `folder`, which has to outlive the bytes; a file is sent as it is. Throws NothingToSend. */
export async function openArchive(path: string, pack: PackDirectory, folder: string): Promise<UploadedBlob> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) return await readBlob(await packInto(folder, await pack(path)));
    if (found.isFile()) return await readBlob(path);
  } catch (cause) {
    throw describeFault(cause, path);
  }
  throw new NothingToSend(`${path} is neither a file nor a directory`);
}

/** What the system says of a file that cannot be read is told with its path; all else is as it was. */
export function describeFault(cause: unknown, path: string): unknown {
  if (cause instanceof InvalidContext || cause instanceof InvalidLayerDirectory) {
    return new NothingToSend(cause.message, { cause });
  }
  if (!(cause instanceof Error && 'code' in cause && 'syscall' in cause)) return cause;
  if (cause.code === 'ENOENT') return new NothingToSend(`there is no ${path}`, { cause });
  return new NothingToSend(`cannot read ${'path' in cause ? cause.path : path} (${cause.code})`, { cause });
}

async function packInto(folder: string, tar: ReadableStream<Uint8Array>): Promise<string> {
  const path = join(folder, `${randomUUID()}.tar.gz`);
  await pipeline(tar, createGzip(), createWriteStream(path, { flags: 'wx' }));
  return path;
}

async function readBlob(path: string): Promise<UploadedBlob> {
  const bytes = await openAsBlob(path);
  const hash = createHash('sha256');
  for await (const chunk of bytes.stream()) hash.update(chunk);
  return { bytes, digest: encodeDigest('sha256', hash) };
}
