// Uploads a blob to a repository of the service in chunks, so that a broken connection costs only one of them. distribution-spec "Pushing
// blobs".
import pRetry, { type Options } from 'p-retry';
import type { Digest } from '../../oci/digest.ts';
import type { Patience } from './builds.ts';
import { type Hints, refusalOf, type Service, ServiceRefused, sendRequest } from './service.ts';

export interface UploadedBlob {
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
