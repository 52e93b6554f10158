// An upstream that speaks distribution-spec over HTTP.
import { z } from 'zod';
import { digestAlgorithm, digestHex, digestOf, isDigest } from '../oci/digest.ts';
import { type ErrorCode, RegistryError } from '../oci/errors.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import { ACCEPT_MANIFESTS, isIndexType, mediaTypes } from '../oci/media-type.ts';
import { ContentMismatch, verifyBytes } from '../oci/verify.ts';
import type { Authorizer } from './bearer.ts';
import { contentLength, contentType, discard, openBody, type ResponseHeaders } from './body.ts';
import { type Attempt, badAnswer, connectionFailure, readLimited } from './failure.ts';
import { type Dialers, type ReadOptions, read } from './request.ts';
import type { CallOptions, ManifestBody, Upstream } from './upstream.ts';

export interface RegistryOptions {
  readonly name: string;
  /** Where `/v2/` is, with no path of its own but perhaps a prefix. */
  readonly url: URL;
  readonly authorizer: Authorizer;
  readonly dialers: Dialers;
}

interface Call extends CallOptions {
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  readonly missing: ErrorCode;
}

const tagsSchema = z.object({ tags: z.array(z.string()).nullish() });

export function createRegistry({ name, url, authorizer, dialers }: RegistryOptions): Upstream {
  const base = `${url.origin}${url.pathname.replace(/\/$/, '')}/v2/`;

  function call(repository: string, path: string, { method = 'GET', headers = {}, signal, missing }: Call) {
    const attempt: Attempt = { upstream: name, action: `${repository}/${path.replace(/\?.*/, '')}`, missing };
    const auth = { authorizer, scope: `repository:${repository}:pull` };
    const options: ReadOptions = { method, headers, signal, attempt, dialers, auth };
    const address = new URL(`${base}${repository}/${path}`);
    return {
      attempt,
      read: () => read(address, options),
      async readBytes() {
        const response = await read(address, options);
        try {
          return { response, raw: await readLimited(response.body, MAX_MANIFEST_BYTES) };
        } catch (cause) {
          signal?.throwIfAborted();
          throw connectionFailure(cause, attempt);
        }
      },
    };
  }

  async function getManifest(repository: string, reference: string, options?: CallOptions): Promise<ManifestBody> {
    const headers = { accept: ACCEPT_MANIFESTS };
    const get = call(repository, `manifests/${reference}`, { ...options, headers, missing: 'MANIFEST_UNKNOWN' });
    const { response, raw } = await get.readBytes();
    const promised = promisedDigest(reference, response.headers);
    if (promised) verify(raw, promised, get.attempt);
    return { raw, digest: promised ?? digestOf(raw), contentType: contentType(response.headers) };
  }

  return {
    name,
    getManifest,

    async headManifest(repository, reference, options) {
      const headers = { accept: ACCEPT_MANIFESTS };
      const head: Call = { ...options, method: 'HEAD', headers, missing: 'MANIFEST_UNKNOWN' };
      const response = await call(repository, `manifests/${reference}`, head).read();
      await response.body.dump();
      return { digest: promisedDigest(reference, response.headers), contentType: contentType(response.headers) };
    },

    async headBlob(repository, digest, options) {
      const head: Call = { ...options, method: 'HEAD', missing: 'BLOB_UNKNOWN' };
      const response = await call(repository, `blobs/${digest}`, head).read();
      await response.body.dump();
      return { size: contentLength(response) };
    },

    async openBlob(repository, digest, { signal, range } = {}) {
      const headers = range ? { range: `bytes=${range.start}-${range.end}` } : {};
      const get = call(repository, `blobs/${digest}`, { signal, headers, missing: 'BLOB_UNKNOWN' });
      const response = await get.read();
      if (range && !isRangeServed(response, `bytes ${range.start}-${range.end}/`)) {
        discard(response);
        throw badAnswer(get.attempt, 'it does not serve the range asked for');
      }
      return openBody(response, get.attempt);
    },

    async listTags(repository, { n, last }, options) {
      const query = new URLSearchParams({ ...(n !== undefined && { n: `${n}` }), ...(last !== undefined && { last }) });
      const path = query.size > 0 ? `tags/list?${query}` : 'tags/list';
      const get = call(repository, path, { ...options, missing: 'NAME_UNKNOWN' });
      const { response, raw } = await get.readBytes();
      const link = [response.headers.link ?? []].flat().join(', ');
      return { tags: parseTags(raw, get.attempt), hasMore: /;\s*rel="?next\b/i.test(link) };
    },

    async findReferrers(repository, digest, artifactType, options) {
      const query = artifactType === undefined ? '' : `?${new URLSearchParams({ artifactType })}`;
      const headers = { accept: mediaTypes.ociIndex };
      const get = call(repository, `referrers/${digest}${query}`, { ...options, headers, missing: 'NAME_UNKNOWN' });
      const answer = await orMissing(get.readBytes());
      if (answer && isIndexType(contentType(answer.response.headers))) return answer.raw;
      const tag = `${digestAlgorithm(digest)}-${digestHex(digest)}`;
      return (await orMissing(getManifest(repository, tag, options)))?.raw;
    },
  };
}

/** The digest that the bytes must have: the one asked for, else the one that the upstream names. */
function promisedDigest(reference: string, headers: ResponseHeaders) {
  if (isDigest(reference)) return reference;
  const named = headers['docker-content-digest'];
  return typeof named === 'string' && isDigest(named) ? named : undefined;
}

function verify(raw: Uint8Array, digest: Parameters<typeof verifyBytes>[1]['digest'], attempt: Attempt): void {
  try {
    verifyBytes(raw, { digest });
  } catch (cause) {
    if (cause instanceof ContentMismatch) throw badAnswer(attempt, cause.message, cause);
    throw cause;
  }
}

function isRangeServed(response: { statusCode: number; headers: ResponseHeaders }, start: string): boolean {
  return response.statusCode === 206 && `${response.headers['content-range']}`.startsWith(start);
}

function parseTags(raw: Uint8Array, attempt: Attempt): readonly string[] {
  try {
    return tagsSchema.parse(JSON.parse(new TextDecoder().decode(raw))).tags ?? [];
  } catch (cause) {
    throw badAnswer(attempt, 'the answer is not a list of tags', cause);
  }
}

/** What is absent, or cannot be asked for, becomes undefined. */
async function orMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (cause) {
    if (cause instanceof RegistryError && [404, 405].includes(cause.status)) return undefined;
    throw cause;
  }
}
