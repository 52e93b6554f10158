// An upstream that speaks distribution-spec over HTTP.
import type { Dispatcher } from 'undici';
import type { Memory } from '../../memory.ts';
import { type Digest, digestOf, isDigest } from '../../oci/digest.ts';
import { ACCEPT_MANIFESTS, mediaTypes } from '../../oci/media-type.ts';
import { ContentMismatch, verifyBytes } from '../../oci/verify.ts';
import { badAnswer, type RequestContext } from '../failure.ts';
import { openBody } from '../transport/body.ts';
import {
  contentLength,
  contentType,
  discard,
  encodedFault,
  findCoding,
  type ResponseHeaders,
  singleHeader,
} from '../transport/response.ts';
import type { Endpoint, ManifestBody, ManifestHead, ManifestOptions, TagPage } from '../upstream.ts';
import { type Clock, remainingMs } from '../waiting.ts';
import { type CallRequest, type CallsOptions, createCalls, type Document, findNextQuery } from './call.ts';
import { readReferrers } from './referrers.ts';
import { MAX_QUERY_LENGTH, type NextPages, pageOf, readTags } from './tag-list.ts';

/** The purpose of a request. */
interface Asked {
  readonly kind: HeadKind;
  readonly repository: string;
  readonly reference: string;
}

export interface RegistryOptions extends CallsOptions {
  readonly heads: HeadSupport;
  readonly nextPages: NextPages;
}

export function createRegistry(options: RegistryOptions): Endpoint {
  const call = createCalls(options);
  const { heads, nextPages } = options;
  // Content about to be pushed is usually missing: a 404 is trusted.
  const isPushing = options.actions === 'pull,push';

  async function getManifest(repository: string, reference: string, options?: ManifestOptions): Promise<ManifestBody> {
    const get = call(repository, `manifests/${reference}`, manifestRequest(options));
    const document = await get.readDocument();
    const promised = promisedDigest(reference, document.headers);
    if (promised) verify(document, promised, get.attempt);
    else requirePlain(document, get.attempt);
    const digest = promised ?? digestOf(document.raw);
    return { raw: document.raw, digest, contentType: contentType(document.headers) };
  }

  /** The answer to HEAD, or the result of `get` where that is inconclusive. */
  async function head<T>(
    { kind, repository, reference }: Asked,
    request: CallRequest,
    { read, get }: { read: (answer: Dispatcher.ResponseData) => T; get: () => Promise<T> },
  ): Promise<T> {
    if (heads.isRefused(kind, repository)) return get();
    const tolerated = heads.doubted(kind, repository).filter(status => !isPushing || status !== 404);
    const answer = await call(repository, `${kind}/${reference}`, { ...request, method: 'HEAD', tolerated }).read();
    await answer.body.dump();
    if (answer.statusCode < 400) {
      heads.worked(kind, repository);
      return read(answer);
    }
    const got = await get();
    heads.refused(kind, repository, answer.statusCode);
    return got;
  }

  return {
    name: options.name,
    getManifest,

    headManifest(repository, reference, options) {
      return head<ManifestHead>({ kind: 'manifests', repository, reference }, manifestRequest(options), {
        read: ({ headers }) => ({ digest: promisedDigest(reference, headers), contentType: contentType(headers) }),
        async get() {
          const body = await getManifest(repository, reference, options);
          return { digest: body.digest, contentType: body.contentType, body };
        },
      });
    },

    headBlob(repository, digest, { signal } = {}) {
      const request: CallRequest = { signal, missing: 'BLOB_UNKNOWN' };
      const read = (answer: Dispatcher.ResponseData) => ({ size: contentLength(answer) });
      return head({ kind: 'blobs', repository, reference: digest }, request, {
        read,
        async get() {
          const answer = await call(repository, `blobs/${digest}`, request).read();
          discard(answer);
          return read(answer);
        },
      });
    },

    openBlob(repository, digest, { signal, range } = {}) {
      const { attempt, read } = call(repository, `blobs/${digest}`, { missing: 'BLOB_UNKNOWN' });
      return openBody({ attempt, read, digest, range, signal });
    },

    async listTags(repository, page, { signal } = {}) {
      const list = `${options.name}/${repository}`;
      const query = page.next === undefined ? queryOf(page) : nextPages.open(list, page.next);
      const get = call(repository, `tags/list${query}`, { signal, missing: 'NAME_UNKNOWN' });
      const { tags, headers } = await get.readBody(async response => ({
        tags: await readTags(response, get.attempt),
        headers: response.headers,
      }));
      const next = findNextQuery(headers, get.address, get.attempt);
      if (next === undefined) return page.next === undefined ? pageOf(tags, page) : { tags, hasMore: false };
      if (isAfter(next, tags)) return { tags, hasMore: true };
      if (next.length > MAX_QUERY_LENGTH) throw badAnswer(get.attempt, 'the address of the next page is too long');
      return { tags, hasMore: true, next: nextPages.seal(list, next) };
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

/** Some registries only return what a client accepts. */
function manifestRequest({ signal, accept = [] }: ManifestOptions = {}): CallRequest {
  return { signal, headers: { accept: [ACCEPT_MANIFESTS, ...accept].join(', ') }, missing: 'MANIFEST_UNKNOWN' };
}

/** The digest that the bytes must have: the requested one, otherwise the one reported by the upstream. */
function promisedDigest(reference: string, headers: ResponseHeaders): Digest | undefined {
  if (isDigest(reference)) return reference;
  const named = singleHeader(headers, 'docker-content-digest')?.trim();
  return named !== undefined && isDigest(named) ? named : undefined;
}

function verify({ raw, headers }: Document, digest: Digest, attempt: RequestContext): void {
  try {
    verifyBytes(raw, { digest });
  } catch (cause) {
    if (!(cause instanceof ContentMismatch)) throw cause;
    const coding = findCoding(headers);
    throw badAnswer(attempt, coding ? encodedFault(coding) : cause.message, cause);
  }
}

/** Without a digest, readable content counts as not encoded. */
function requirePlain({ raw, headers }: Document, attempt: RequestContext): void {
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

function queryOf({ n, last }: TagPage): string {
  const query = new URLSearchParams({ ...(n !== undefined && { n: `${n}` }), ...(last !== undefined && { last }) });
  return query.size > 0 ? `?${query}` : '';
}

/** Whether the query only asks for the page after these tags. */
function isAfter(query: string, tags: readonly string[]): boolean {
  const parameters = new URLSearchParams(query);
  const last = parameters.get('last') ?? tags.at(-1);
  return tags.length > 0 && last === tags.at(-1) && [...parameters.keys()].every(key => key === 'n' || key === 'last');
}

// Tracks which registries do not support HEAD: they are asked by GET, but not for longer than needed, since some limit GETs of tags.

/** What HEAD is used for: a registry may redirect blobs to a host that only supports GET, while supporting HEAD of manifests itself. */
type HeadKind = 'manifests' | 'blobs';

/** The experience with one registry, from all callers. */
interface HeadSupport {
  /** Whether HEAD is known to fail where GET succeeds. */
  isRefused(kind: HeadKind, repository: string): boolean;
  /** The statuses of a HEAD that are inconclusive. A 404 is trusted where HEAD has worked before. */
  doubted(kind: HeadKind, repository: string): readonly number[];
  worked(kind: HeadKind, repository: string): void;
  /** HEAD had this status, but GET succeeded. */
  refused(kind: HeadKind, repository: string, status: number): void;
}

interface Known {
  readonly isRefused: boolean;
  readonly since: Date;
}

const MEMORY_MS = 3600_000;
/** For all its repositories: it does not support the method. */
const UNKNOWN_METHOD: readonly number[] = [405, 501];
const DOUBTED: readonly number[] = [400, 403, 404, ...UNKNOWN_METHOD];
/** Not a repository name. */
const ALL = '*';

export function createHeadSupport(clock: Pick<Clock, 'now'>, memory: Memory): HeadSupport {
  const known = memory.openCache<Known>();

  function find(kind: HeadKind, repository: string): Known | undefined {
    const found = known.get(`${kind} ${repository}`);
    return found && remainingMs(clock, found.since, MEMORY_MS) > 0 ? found : undefined;
  }

  function note(kind: HeadKind, repository: string, isRefused: boolean): void {
    known.set(`${kind} ${repository}`, { isRefused, since: clock.now() });
  }

  return {
    isRefused: (kind, repository) => (find(kind, ALL) ?? find(kind, repository))?.isRefused ?? false,
    doubted: (kind, repository) => DOUBTED.filter(status => status !== 404 || find(kind, repository) === undefined),
    worked: (kind, repository) => note(kind, repository, false),
    refused: (kind, repository, status) => note(kind, UNKNOWN_METHOD.includes(status) ? ALL : repository, true),
  };
}
