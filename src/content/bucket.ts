// A bucket of an S3 service. The SDK is loaded when a bucket is opened, since it takes much memory. While the service is away or asks for fewer
// requests, they are retried for some seconds, and then fail as UNAVAILABLE. No error has a cause, since those of the SDK quote signed requests.
import { Readable } from 'node:stream';
import pLimit from 'p-limit';
import type { ByteRange } from '../oci/bytes.ts';
import { RegistryError } from '../oci/errors.ts';
import {
  BucketFault,
  type DelayOf,
  findBucketFault,
  findRefusal,
  isAbsent,
  retryDelay,
  retryOptions,
} from './bucket-fault.ts';
import { type ObjectFile, readVerified, streamResumed } from './bucket-stream.ts';

export interface BucketOptions {
  readonly bucket: string;
  /** Default: the endpoint of the region at AWS. */
  readonly endpoint?: string | undefined;
  /** Default: from the environment of the SDK. */
  readonly region?: string | undefined;
  /** The prefix of all keys: empty, or with a trailing slash. */
  readonly prefix: string;
  /** Whether the bucket is the first component of the path instead of the host name. */
  readonly pathStyle: boolean;
  /** Clients read objects themselves, at this endpoint or that of the bucket. */
  readonly redirect?: { readonly endpoint?: string | undefined; readonly expiresMs: number } | undefined;
}

interface StoredObject {
  /** Without the prefix. */
  readonly key: string;
  readonly size: number;
  /** According to the clock of the service. */
  readonly storedAt: Date;
}

/** Throws UNAVAILABLE (503) where the service does not answer or refuses. Keys are without the prefix. */
export interface Bucket {
  find(key: string): Promise<StoredObject | undefined>;
  /**
   * The bytes, unverified, and their number; undefined for an absent object. A connection that breaks is resumed. The caller reads the
   * stream to its end or cancels it. The signal is for the time until there is one.
   */
  open(key: string, range?: ByteRange, signal?: AbortSignal): Promise<OpenedObject | undefined>;
  /** A signed address of an object, whether or not that exists; undefined unless clients read objects themselves. */
  locate(key: string): Promise<string | undefined>;
  /**
   * Stores the bytes of a file, which are verified while they are sent: the object appears whole, or not at all. One that is there and has
   * this size stays, unless it `isReplaced`. Throws ContentMismatch, or StorageFailure for a file that cannot be read.
   */
  put(key: string, file: ObjectFile, options?: { readonly isReplaced?: boolean }): Promise<void>;
  /** Makes one object of another, within the service; returns false where there is no such object. At most MAX_COPY_BYTES of it. */
  copy(from: string, to: string): Promise<boolean>;
  /** Retried for a few seconds only: the caller may not hold its lock any longer. */
  delete(key: string): Promise<void>;
  /** In the order of keys, read page by page. */
  list(prefix: string): AsyncIterable<StoredObject>;
  /** Removes the parts of uploads that began before this, and were never completed; returns how many there were. */
  abortUploads(before: Date): Promise<number>;
  /** Throws BucketFault unless objects can be listed, and written. */
  checkAccess(): Promise<void>;
  /** Checks whether the service can be used, unless it has just answered. Returns the fault, if any, safe to show to anyone. */
  findFault(): Promise<string | undefined>;
  close(): void;
}

interface OpenedObject {
  readonly body: ReadableStream<Uint8Array>;
  readonly size: number;
}

const CONNECT_MS = 3_000;
/** For sending a part, and receiving the head of a response. */
const REQUEST_MS = 60_000;
const PROBE_MS = 2_000;
/** Less than an attempt at a service that is away takes, with its retries. */
const LATELY_MS = 5_000;
/** Then a probe has failed. */
const LATE_MS = 20_000;
/** With a probe before it, less than a lock is held after it was confirmed. */
const DELETE_MS = 5_000;
const MAX_SOCKETS = 256;
/** Each concurrent upload of a part holds this much in memory. */
const PART_BYTES = 8 * 1024 * 1024;
const MAX_PARTS = 9_000;
const PARTS_AT_ONCE = 2;
const MAX_LARGE_UPLOADS = 2;
/** Objects up to this size are held in memory whole. */
const SMALL_BYTES = 1024 * 1024;
const MAX_SMALL_UPLOADS = 16;
const RETRY_AFTER_SECONDS = 5;
/** The limit of S3 for a copy in one request. */
export const MAX_COPY_BYTES = 5 * 1024 ** 3;
/** The service only answers once all of it is copied. */
const COPY_MS = 300_000;

interface BucketHooks {
  /** Called with each new reason why the service cannot be used, and with undefined when it is back. */
  readonly onFault?: ((fault: BucketFault | undefined) => void) | undefined;
  /** Called for each answer that asks for fewer requests, such as SlowDown. The request is repeated. */
  readonly onThrottled?: (() => void) | undefined;
  readonly delayMs?: DelayOf | undefined;
}

/** Does not ask the service anything. */
export async function openBucket(
  { bucket, endpoint, region, prefix, pathStyle, redirect }: BucketOptions,
  { onFault = () => {}, onThrottled = () => {}, delayMs = retryDelay }: BucketHooks = {},
): Promise<Bucket> {
  const [sdk, { Upload }, { Retry, StandardRetryStrategy }] = await Promise.all([
    import('@aws-sdk/client-s3'),
    import('@aws-sdk/lib-storage'),
    import('@smithy/core/retry'),
  ]);
  const client = new sdk.S3Client({
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    forcePathStyle: pathStyle,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      requestTimeout: REQUEST_MS,
      throwOnRequestTimeout: true,
      // A slow client of ours is no fault of the service: how long it may be silent is measured while somebody waits for it.
      socketTimeout: 0,
      httpAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
      httpsAgent: { maxSockets: MAX_SOCKETS, keepAlive: true },
    },
  });
  client.config.retryStrategy = async () => new StandardRetryStrategy(retryOptions(Retry, { delayMs, onThrottled }));
  const limitLarge = pLimit(MAX_LARGE_UPLOADS);
  const limitSmall = pLimit(MAX_SMALL_UPLOADS);
  let fault: BucketFault | undefined;
  let answeredAt = Number.NEGATIVE_INFINITY;
  let probing: Promise<void> | undefined;
  // Checksums in headers, and conditions of writes: later additions to S3, which a service may lack.
  let hasAdditions = true;

  function note(next: BucketFault | undefined): void {
    if (next) answeredAt = Number.NEGATIVE_INFINITY;
    else answeredAt = performance.now();
    // The first reason is more informative than repetitions.
    if (next?.message === fault?.message || (next?.isAway && fault?.isAway)) return;
    fault = next;
    onFault(next);
  }

  /** Undefined for an absent object. Throws BucketFault. */
  async function ask<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      const answer = await work;
      note(undefined);
      return answer;
    } catch (error) {
      if (isAbsent(error)) {
        note(undefined);
        return undefined;
      }
      const found = findBucketFault(error, bucket);
      // A service that answers others is not away, but has too much to do.
      const isBusy = performance.now() - answeredAt < LATELY_MS;
      if (found && !(found.isAway && isBusy)) note(found);
      throw found ?? error;
    }
  }

  /** While the service is away, a short probe comes first: the request itself would be retried for much longer. */
  async function use<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      if (fault) await probe();
      return await ask(work());
    } catch (error) {
      throw error instanceof BucketFault ? unavailable(error) : error;
    }
  }

  /** One probe at a time, shared by all waiting callers. They do not wait for one that is slow, but its answer counts all the same. */
  async function probe(): Promise<void> {
    probing ??= list().finally(() => {
      probing = undefined;
    });
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(() => reject(fault ?? silence()), PROBE_MS);
    await Promise.race([probing, late]).finally(() => clearTimeout(timer));
  }

  async function list(): Promise<void> {
    const abortSignal = AbortSignal.timeout(LATE_MS);
    await ask(
      client.send(new sdk.ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 1 }), { abortSignal }),
    );
  }

  async function openPart(key: string, range: ByteRange | undefined, abortSignal?: AbortSignal) {
    const Range = range && `bytes=${range.start}-${range.end}`;
    const command = new sdk.GetObjectCommand({
      Bucket: bucket,
      Key: prefix + key,
      ...(Range !== undefined && { Range }),
    });
    const found = await use(() => client.send(command, abortSignal ? { abortSignal } : {}));
    return found?.Body && { source: found.Body.transformToWebStream().getReader(), size: found.ContentLength ?? 0 };
  }

  async function upload(key: string, file: ObjectFile, isReplaced: boolean): Promise<void> {
    const upload = new Upload({
      client,
      params: {
        ...{ Bucket: bucket, Key: prefix + key, Body: Readable.from(readVerified(file)) },
        ...(hasAdditions && { ChecksumAlgorithm: 'CRC32' }),
        ...(hasAdditions && !isReplaced && { IfNoneMatch: '*' }),
      },
      partSize: Math.max(PART_BYTES, Math.ceil(file.size / MAX_PARTS)),
      queueSize: PARTS_AT_ONCE,
    });
    await upload.done();
  }

  /** An object that has appeared meanwhile is as good. */
  async function uploadOnce(key: string, file: ObjectFile): Promise<void> {
    try {
      await upload(key, file, false);
    } catch (error) {
      const refusal = findRefusal(error);
      if (!refusal) throw error;
      if (refusal === 'unknown') hasAdditions = false;
      else if ((await findObject(key))?.size === file.size) return;
      await upload(key, file, true);
    }
  }

  async function findObject(key: string): Promise<StoredObject | undefined> {
    const found = await use(() => client.send(new sdk.HeadObjectCommand({ Bucket: bucket, Key: prefix + key })));
    return found && { key, size: found.ContentLength ?? 0, storedAt: found.LastModified ?? new Date(0) };
  }

  async function sign(key: string, { endpoint: publicEndpoint = endpoint, expiresMs }: Redirect): Promise<string> {
    const signingRegion = await client.config.region();
    const found = client.config.endpointProvider({
      ...{ Bucket: bucket, Region: signingRegion, ForcePathStyle: pathStyle },
      ...(publicEndpoint !== undefined && { Endpoint: publicEndpoint }),
    });
    const signer = await client.config.signer({ name: 'sigv4', signingName: 's3', signingRegion, properties: {} });
    if (!isPresigner(signer)) throw new TypeError('the SDK of S3 cannot sign addresses');
    // Copied: the SDK shares its own.
    const url = new URL(found.url);
    url.pathname = `${url.pathname.replace(/\/$/, '')}/${prefix}${key}`;
    const { protocol, hostname, port, pathname, host } = url;
    const request = {
      ...{ method: 'GET', protocol, hostname, path: pathname },
      ...(port !== '' && { port: Number(port) }),
      headers: { host, 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' },
      query: { 'response-content-type': 'application/octet-stream' },
    };
    const { query } = await signer.presign(request, { expiresIn: expiresMs / 1000 });
    url.search = String(new URLSearchParams(query));
    return url.href;
  }

  return {
    find: findObject,
    locate: async key => redirect && (await sign(key, redirect)),
    async open(key, range, signal) {
      const first = await openPart(key, range, signal);
      if (!first) return undefined;
      const start = range?.start ?? 0;
      const end = start + first.size - 1;
      const reopen = async (from: number) => (await openPart(key, { start: from, end }))?.source;
      return { body: streamResumed(first.source, { start, end }, reopen), size: first.size };
    },
    put(key, file, { isReplaced = false } = {}) {
      const limit = file.size > SMALL_BYTES ? limitLarge : limitSmall;
      return limit(async () => {
        if (!isReplaced && (await findObject(key))?.size === file.size) return;
        await use(() => (isReplaced ? upload(key, file, true) : uploadOnce(key, file)));
      });
    },
    async copy(from, to) {
      const CopySource = [bucket, ...`${prefix}${from}`.split('/')].map(encodeURIComponent).join('/');
      const command = new sdk.CopyObjectCommand({ Bucket: bucket, Key: prefix + to, CopySource });
      return (await use(() => client.send(command, { requestTimeout: COPY_MS }))) !== undefined;
    },
    async delete(key) {
      const command = new sdk.DeleteObjectCommand({ Bucket: bucket, Key: prefix + key });
      await use(() => client.send(command, { abortSignal: AbortSignal.timeout(DELETE_MS) }));
    },
    async *list(under) {
      let token: string | undefined;
      do {
        const command = new sdk.ListObjectsV2Command({
          ...{ Bucket: bucket, Prefix: prefix + under },
          ...(token !== undefined && { ContinuationToken: token }),
        });
        const page = await use(() => client.send(command));
        for (const { Key, Size, LastModified } of page?.Contents ?? [])
          if (Key !== undefined)
            yield { key: Key.slice(prefix.length), size: Size ?? 0, storedAt: LastModified ?? new Date(0) };
        token = page?.NextContinuationToken;
      } while (token !== undefined);
    },
    async abortUploads(before) {
      const command = new sdk.ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix });
      const page = await use(() => client.send(command));
      const old = (page?.Uploads ?? []).filter(({ Initiated }) => Initiated !== undefined && Initiated < before);
      for (const { Key, UploadId } of old)
        await use(() => client.send(new sdk.AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId })));
      return old.length;
    },
    async checkAccess() {
      await probe();
      const abortSignal = AbortSignal.timeout(REQUEST_MS);
      const Body = 'Veneer writes this object at each start, to check its access.\n';
      await ask(
        client.send(new sdk.PutObjectCommand({ Bucket: bucket, Key: `${prefix}access-check`, Body }), { abortSignal }),
      );
    },
    async findFault() {
      if (performance.now() - answeredAt < PROBE_MS) return undefined;
      try {
        await probe();
        return undefined;
      } catch {
        const { isAway, message } = fault ?? silence();
        return isAway ? message : REFUSES;
      }
    },
    close: () => client.destroy(),
  };
}

type Redirect = NonNullable<BucketOptions['redirect']>;

/** The SDK has this method, but not in its types. */
interface Presigner {
  presign(
    request: { readonly query: Readonly<Record<string, string>> },
    options: { readonly expiresIn: number },
  ): Promise<{ readonly query: Record<string, string> }>;
}

function isPresigner<T extends object>(signer: T): signer is T & Presigner {
  return 'presign' in signer;
}

const silence = () => new BucketFault('the object store does not answer (a time-out)', { isAway: true });
const REFUSES = 'the object store of the registry refuses its requests: the log of Veneer has the cause';

function unavailable({ isAway }: BucketFault): RegistryError {
  const message = isAway ? 'the object store of the registry does not answer: try again' : `${REFUSES} and the remedy`;
  return new RegistryError('UNAVAILABLE', message, { status: 503, retryAfterSeconds: RETRY_AFTER_SECONDS });
}
