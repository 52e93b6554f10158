// Sends bytes to the service: within the request while they are small, else uploaded to a repository that the request names.
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream, openAsBlob } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { InvalidLayerDirectory } from '../builds/context/layer-directory.ts';
import { InvalidContext } from '../builds/context/tree.ts';
import { encodeDigest } from '../oci/digest.ts';
import { formatSize } from '../oci/wording.ts';
import { type ByteBar, createByteBar } from './progress.ts';
import type { Service } from './service/service.ts';
import { type UploadedBlob, type UploadOptions, uploadBlob } from './service/upload.ts';

/** A build context or a layer, as given in a request. */
export interface UploadContent {
  readonly location: string;
  readonly gzipDigest?: string;
  readonly gzipSize?: number;
}

interface SenderOptions extends Pick<UploadOptions, 'patience'> {
  /** The limit for everything within one request. */
  readonly inlineBytes?: number;
  /** Shows the progress of an upload. */
  readonly terminal: NodeJS.WritableStream | undefined;
  readonly explain: (line: string) => void;
}

/** Throws ServiceRefused. `name` is for display. One sender for each request. */
export type Send = (name: string, blob: UploadedBlob) => Promise<UploadContent>;

/** In base64, still below a service's default limits for a layer and a body. */
const INLINE_BYTES = 8 * 1024 * 1024;
const REPOSITORY = 'local/builds';

export function createSender(service: Service, options: SenderOptions): Send {
  let left = options.inlineBytes ?? INLINE_BYTES;

  return async (name, blob) => {
    const { bytes, digest } = blob;
    const described = { gzipDigest: digest, gzipSize: bytes.size };
    if (bytes.size > left) {
      await upload(service, name, blob, options);
      return { location: `oci://${service.url.host}/${REPOSITORY}@${digest}`, ...described };
    }
    left -= bytes.size;
    return { location: `data:${Buffer.from(await bytes.arrayBuffer()).toString('base64')}`, ...described };
  };
}

async function upload(
  service: Service,
  name: string,
  blob: UploadedBlob,
  { terminal, explain, patience }: SenderOptions,
): Promise<void> {
  const { size } = blob.bytes;
  let bar: ByteBar | undefined;
  const onProgress = (arrived: number) => {
    if (arrived === 0) {
      explain(`sending ${name}, ${formatSize(size)}`);
      bar = terminal && createByteBar(terminal, name, size);
    }
    bar?.update(arrived);
  };
  try {
    await uploadBlob(service, REPOSITORY, blob, { patience, onProgress });
  } finally {
    bar?.close();
  }
}

/** A directory as a tar: the same files give the same bytes. */
type PackDirectory = (directory: string) => Promise<ReadableStream<Uint8Array>>;

/** The file to send does not exist, or is neither a file nor a directory. */
export class NothingToSend extends Error {
  override readonly name = 'NothingToSend';
}

/** A directory is archived as a gzip in `folder`, which must outlive the bytes; a file is sent as it is. Throws NothingToSend. */
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

/** Errors of unreadable files are reported with their path; others are rethrown. */
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
