// Sends bytes to the service: within the request while they are small, else uploaded to a repository that the request names.
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream, openAsBlob } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import pRetry, { type Options } from 'p-retry';
import { InvalidLayerDirectory } from '../builds/context/layer-directory.ts';
import { InvalidContext } from '../builds/context/tree.ts';
import { type Digest, encodeDigest } from '../oci/digest.ts';
import { formatSize } from '../oci/wording.ts';
import { type ByteBar, loadByteBar } from './progress.ts';
import type { Patience } from './service/builds.ts';
import { type Hints, refusalOf, type Service, ServiceRefused, sendRequest } from './service/service.ts';

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
  const createBar = terminal && (await loadByteBar(terminal));
  let bar: ByteBar | undefined;
  const onProgress = (arrived: number) => {
    if (arrived === 0) {
      explain(`sending ${name}, ${formatSize(size)}`);
      bar = createBar?.(name, size);
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

// Uploads a blob to a repository of the service in chunks, so that a broken connection costs only one of them. distribution-spec "Pushing
// blobs".

interface UploadedBlob {
  readonly bytes: Blob;
  readonly digest: Digest;
}

export interface UploadOptions {
  /** Called with the number of bytes received: 0 first, and not at all if the repository has the blob. */
  readonly onProgress?: (bytes: number) => void;
  readonly chunkBytes?: number;
  readonly patience?: Patience | undefined;
}

const CHUNK_BYTES = 8 * 1024 * 1024;
const PATIENCE: Patience = { retries: 5, minTimeout: 500, factor: 2 };

const HINTS: Hints = {
  401: 'set VENEER_TOKEN to a token that may push there',
  403: 'set VENEER_TOKEN to a token that may push there',
  405: 'large content is pushed there before the request: add the repository to hosted.prefixes of the service',
};

/** Sends nothing if the repository has the blob. Throws ServiceRefused. */
export async function uploadBlob(
  service: Service,
  repository: string,
  { bytes, digest }: UploadedBlob,
  { onProgress, chunkBytes = CHUNK_BYTES, patience = PATIENCE }: UploadOptions = {},
): Promise<void> {
  if (await hasBlob(service, repository, digest)) return;
  let location = await begin(service, repository);
  let arrived = 0;
  onProgress?.(arrived);

  async function sendNext(attempt: number): Promise<void> {
    if (attempt > 1) arrived = await askArrived(service, location);
    if (arrived >= bytes.size) return;
    const end = Math.min(arrived + chunkBytes, bytes.size);
    const headers = {
      'Content-Type': 'application/octet-stream',
      'Content-Range': `${arrived}-${end - 1}`,
    };
    location = locationOf(
      await ask(service, location, { method: 'PATCH', headers, body: bytes.slice(arrived, end) }),
      service,
    );
    arrived = end;
  }

  const shouldRetry: Options['shouldRetry'] = ({ error }) => error instanceof ServiceRefused && error.isTransient;
  while (arrived < bytes.size) {
    await pRetry(sendNext, { ...patience, shouldRetry });
    onProgress?.(arrived);
  }
  const target = new URL(location);
  target.searchParams.set('digest', digest);
  await ask(service, target.href, { method: 'PUT' });
}

async function hasBlob(service: Service, repository: string, digest: Digest): Promise<boolean> {
  const { ok } = await sendRequest(service, `/v2/${repository}/blobs/${digest}`, { method: 'HEAD' });
  return ok;
}

async function begin(service: Service, repository: string): Promise<string> {
  return locationOf(await ask(service, `/v2/${repository}/blobs/uploads/`, { method: 'POST' }), service);
}

/** `Range: 0-<last>`; `0-0` means one byte or none. */
async function askArrived(service: Service, location: string): Promise<number> {
  const { headers } = await ask(service, location);
  const last = Number(/^0-(\d+)$/.exec(headers.get('Range') ?? '')?.[1] ?? 0);
  return last === 0 ? 0 : last + 1;
}

/** An answer whose body is not needed. */
async function ask(service: Service, path: string, init?: RequestInit): Promise<Response> {
  const response = await sendRequest(service, path, init);
  if (!response.ok) throw await refusalOf(response, HINTS);
  await response.body?.cancel();
  return response;
}

function locationOf({ headers, url }: Response, service: Service): string {
  const location = headers.get('Location');
  if (location === null) throw new ServiceRefused(`${service.url.host} is not a registry`);
  return new URL(location, url).href;
}
