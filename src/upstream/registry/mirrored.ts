// A registry with mirrors: endpoints are tried in order, mirrors first, and the registry itself last.
import { createByteStream, streamSource } from '../../content/byte-stream.ts';
import type { Memory } from '../../memory.ts';
import type { ByteRange } from '../../oci/bytes.ts';
import { type Digest, isDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { parseManifest } from '../../oci/manifest.ts';
import { isIndexType, isManifestType } from '../../oci/media-type.ts';
import { ContentMismatch, createVerifier } from '../../oci/verify.ts';
import { badAnswer } from '../failure.ts';
import type { BlobBody, CallOptions, Endpoint, ManifestBody, ManifestHead } from '../upstream.ts';

/** Throws what `own` throws. */
export function createMirrored(mirrors: readonly Endpoint[], own: Endpoint, memory: Memory): Endpoint {
  if (mirrors.length === 0) return own;
  const badMirrors = createBadMirrors(memory);

  async function first<T>(
    ask: (endpoint: Endpoint) => Promise<T>,
    { signal }: CallOptions = {},
    check: (answer: T) => unknown = () => {},
  ): Promise<T> {
    for (const mirror of mirrors) {
      try {
        const answer = await ask(mirror);
        check(answer);
        return answer;
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof RegistryError)) throw error;
      }
    }
    return ask(own);
  }

  return {
    name: own.name,
    headManifest: (repository, reference, options) =>
      first(endpoint => endpoint.headManifest(repository, reference, options), options, requireNamed),
    getManifest: (repository, reference, options) =>
      // Content requested by digest is verified.
      first(
        endpoint => endpoint.getManifest(repository, reference, options),
        options,
        isDigest(reference) ? undefined : requireManifest,
      ),
    headBlob: (repository, digest, options) =>
      first(endpoint => endpoint.headBlob(repository, digest, options), options),
    listTags: (repository, page, options) => first(endpoint => endpoint.listTags(repository, page, options), options),
    // Mirrors seldom have them, so their absence proves nothing.
    findReferrers: (repository, digest, options) => own.findReferrers(repository, digest, options),
    openBlob(repository, digest, options = {}) {
      const endpoints = [...mirrors.filter(mirror => !badMirrors.has(mirror, digest)), own];
      const open = (endpoint: Endpoint, range: ByteRange | undefined) =>
        endpoint.openBlob(repository, digest, { ...options, ...(range && { range }) });
      return openFirst(endpoints, { ...options, digest, open, badMirrors });
    },
  };
}

/** Throws MANIFEST_INVALID for the page of a captive portal, or of anything else that answers every request. */
function requireManifest({ raw, contentType, digest }: ManifestBody): void {
  requireNamed({ digest: undefined, contentType: parseManifest(raw, contentType, digest).mediaType });
}

function requireNamed({ digest, contentType }: ManifestHead): void {
  if (digest !== undefined || isIndexType(contentType) || isManifestType(contentType)) return;
  throw new RegistryError('MANIFEST_INVALID', `it has ${contentType || 'no Content-Type'}, and no digest`);
}

/** Which mirrors have sent wrong bytes for a digest: they are skipped for that blob. */
interface BadMirrors {
  has(endpoint: Endpoint, digest: Digest): boolean;
  add(endpoint: Endpoint, digest: Digest): void;
}

interface MirroredBlob {
  readonly digest: Digest;
  readonly range?: ByteRange | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly open: (endpoint: Endpoint, range: ByteRange | undefined) => Promise<BlobBody>;
  readonly badMirrors: BadMirrors;
}

function createBadMirrors(memory: Memory): BadMirrors {
  const bad = memory.openCache<true>();
  const keyOf = ({ name }: Endpoint, digest: Digest) => `${name}@${digest}`;
  return {
    has: (endpoint, digest) => bad.has(keyOf(endpoint, digest)),
    add: (endpoint, digest) => void bad.set(keyOf(endpoint, digest), true),
  };
}

interface Opened extends BlobBody {
  readonly endpoint: Endpoint;
  /** The endpoints after it. */
  readonly rest: readonly Endpoint[];
}

/**
 * A blob from the first endpoint that has it; where its body is cut off, the next endpoint continues. Throws what the last endpoint throws.
 * The body is verified where it is the whole blob.
 */
async function openFirst(endpoints: readonly Endpoint[], blob: MirroredBlob): Promise<BlobBody> {
  const opened = await open(endpoints, blob, blob.range);
  return { body: stream(opened, blob), size: opened.size };
}

async function open(endpoints: readonly Endpoint[], blob: MirroredBlob, range: ByteRange | undefined): Promise<Opened> {
  const [endpoint, ...rest] = endpoints;
  if (!endpoint) throw new RangeError('no endpoint to open a blob from');
  try {
    return { ...(await blob.open(endpoint, range)), endpoint, rest };
  } catch (error) {
    blob.signal?.throwIfAborted();
    if (rest.length === 0 || !(error instanceof RegistryError)) throw error;
    return open(rest, blob, range);
  }
}

function stream(first: Opened, blob: MirroredBlob): ReadableStream<Uint8Array> {
  const { digest, range, signal, badMirrors } = blob;
  const end = range?.end ?? (first.size === undefined ? undefined : first.size - 1);
  const verifier = range ? undefined : createVerifier({ digest });
  const used = new Set([first.endpoint]);
  let { rest } = first;
  let source = streamSource(first.body);
  let isClosed = false;
  let position = range?.start ?? 0;

  async function next(view: Uint8Array): Promise<number> {
    try {
      return await source.read(view);
    } catch (cause) {
      signal?.throwIfAborted();
      if (rest.length === 0 || end === undefined || position > end) throw cause;
      const more = await open(rest, blob, { start: position, end });
      used.add(more.endpoint);
      rest = more.rest;
      source = streamSource(more.body);
      // The reader has left meanwhile.
      if (isClosed) await source.close();
      return isClosed ? 0 : next(view);
    }
  }

  function finish(): void {
    try {
      verifier?.finish();
    } catch (cause) {
      if (!(cause instanceof ContentMismatch)) throw cause;
      for (const endpoint of used) badMirrors.add(endpoint, digest);
      const attempt = { upstream: first.endpoint.name, action: `blobs/${digest}`, missing: 'BLOB_UNKNOWN' } as const;
      throw badAnswer(attempt, cause.message, cause);
    }
  }

  return createByteStream({
    async read(view) {
      const bytes = await next(view);
      if (isClosed) return 0;
      position += bytes;
      if (bytes > 0) verifier?.update(view.subarray(0, bytes));
      else finish();
      return bytes;
    },
    close() {
      isClosed = true;
      return source.close();
    },
  });
}
