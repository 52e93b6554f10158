// Brings bytes to where a request can name them: into the request itself while they are few, else into a repository of the service.
import { formatSize } from '../oci/size.ts';
import { type ByteBar, createByteBar } from './progress/bars.ts';
import type { Service } from './service/service.ts';
import { type UploadedBlob, type UploadOptions, uploadBlob } from './service/upload.ts';

/** A build context or a layer, as a request has it. */
export interface SentBytes {
  readonly location: string;
  readonly gzipDigest?: string;
  readonly gzipSize?: number;
}

interface SenderOptions extends Pick<UploadOptions, 'patience'> {
  /** What all together may have within one request. */
  readonly inlineBytes?: number;
  /** Shows how far an upload is. */
  readonly terminal: NodeJS.WritableStream | undefined;
  readonly explain: (line: string) => void;
}

/** Throws ServiceRefused. `name` is for people. One sender is for one request. */
export type Send = (name: string, blob: UploadedBlob) => Promise<SentBytes>;

/** In base64 they stay under what a service takes by default as a layer, and as a body. */
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
