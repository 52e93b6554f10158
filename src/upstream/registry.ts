// An upstream that speaks distribution-spec over HTTP.
import { z } from 'zod';
import { type Digest, digestOf, isDigest } from '../oci/digest.ts';
import { ACCEPT_MANIFESTS, mediaTypes } from '../oci/media-type.ts';
import { ContentMismatch, verifyBytes } from '../oci/verify.ts';
import { openBody } from './body.ts';
import { type CallRequest, type CallsOptions, createCalls, type Document } from './call.ts';
import { type Attempt, badAnswer } from './failure.ts';
import { findNext } from './link.ts';
import { readReferrers } from './referrers.ts';
import {
  contentLength,
  contentType,
  encodedFault,
  findCoding,
  type ResponseHeaders,
  singleHeader,
} from './response.ts';
import type { CallOptions, ManifestBody, Place } from './upstream.ts';

const tagsSchema = z.object({ tags: z.array(z.string().max(128)).nullish() });

export function createRegistry(options: CallsOptions): Place {
  const call = createCalls(options);

  async function getManifest(repository: string, reference: string, options?: CallOptions): Promise<ManifestBody> {
    const headers = { accept: ACCEPT_MANIFESTS };
    const get = call(repository, `manifests/${reference}`, { ...options, headers, missing: 'MANIFEST_UNKNOWN' });
    const document = await get.readDocument();
    const promised = promisedDigest(reference, document.headers);
    if (promised) verify(document, promised, get.attempt);
    else requirePlain(document, get.attempt);
    const digest = promised ?? digestOf(document.raw);
    return { raw: document.raw, digest, contentType: contentType(document.headers) };
  }

  return {
    name: options.name,
    getManifest,

    async headManifest(repository, reference, options) {
      const headers = { accept: ACCEPT_MANIFESTS };
      const head: CallRequest = { ...options, method: 'HEAD', headers, missing: 'MANIFEST_UNKNOWN' };
      const response = await call(repository, `manifests/${reference}`, head).read();
      await response.body.dump();
      return { digest: promisedDigest(reference, response.headers), contentType: contentType(response.headers) };
    },

    async headBlob(repository, digest, options) {
      const head: CallRequest = { ...options, method: 'HEAD', missing: 'BLOB_UNKNOWN' };
      const response = await call(repository, `blobs/${digest}`, head).read();
      await response.body.dump();
      return { size: contentLength(response) };
    },

    openBlob(repository, digest, { signal, range } = {}) {
      const { attempt, read } = call(repository, `blobs/${digest}`, { missing: 'BLOB_UNKNOWN' });
      return openBody({ attempt, read, digest, range, signal });
    },

    async listTags(repository, { n, last }, options) {
      const query = new URLSearchParams({ ...(n !== undefined && { n: `${n}` }), ...(last !== undefined && { last }) });
      const path = query.size > 0 ? `tags/list?${query}` : 'tags/list';
      const get = call(repository, path, { ...options, missing: 'NAME_UNKNOWN' });
      const { raw, headers } = await get.readDocument();
      const hasMore = findNext(headers, get.address, get.attempt) !== undefined;
      return { tags: parseTags(raw, get.attempt), hasMore };
    },

    findReferrers(repository, digest, { artifactType, signal } = {}) {
      const query = artifactType === undefined ? '' : `?${new URLSearchParams({ artifactType })}`;
      const headers = { accept: mediaTypes.ociIndex };
      const api = call(repository, `referrers/${digest}${query}`, { signal, headers, missing: 'NAME_UNKNOWN' });
      const getTagged = (tag: string) => getManifest(repository, tag, { signal });
      return readReferrers(api, { digest, artifactType, getTagged });
    },
  };
}

/** The digest that the bytes must have: the one asked for, else the one that the upstream names. */
function promisedDigest(reference: string, headers: ResponseHeaders): Digest | undefined {
  if (isDigest(reference)) return reference;
  const named = singleHeader(headers, 'docker-content-digest')?.trim();
  return named !== undefined && isDigest(named) ? named : undefined;
}

function verify({ raw, headers }: Document, digest: Digest, attempt: Attempt): void {
  try {
    verifyBytes(raw, { digest });
  } catch (cause) {
    if (!(cause instanceof ContentMismatch)) throw cause;
    const coding = findCoding(headers);
    throw badAnswer(attempt, coding ? encodedFault(coding) : cause.message, cause);
  }
}

/** Where no digest tells, what can be read is not encoded. */
function requirePlain({ raw, headers }: Document, attempt: Attempt): void {
  const coding = findCoding(headers);
  if (coding && !isJson(raw)) throw badAnswer(attempt, encodedFault(coding));
}

function isJson(raw: Uint8Array): boolean {
  try {
    JSON.parse(new TextDecoder().decode(raw));
    return true;
  } catch {
    return false;
  }
}

function parseTags(raw: Uint8Array, attempt: Attempt): readonly string[] {
  try {
    return tagsSchema.parse(JSON.parse(new TextDecoder().decode(raw))).tags ?? [];
  } catch {
    // The cause would quote the answer, which may hold what we sent.
    throw badAnswer(attempt, 'the answer is not a list of tags');
  }
}
