// What the test registry answers, from what it was given.
import type { IncomingMessage, ServerResponse } from 'node:http';
import rangeParser from 'range-parser';
import { z } from 'zod';
import type { Digest } from '../../src/oci/digest.ts';
import type { TokenServer } from './token-server.ts';

/** Bytes to serve: a manifest when it has `tags` (be they none) or an image's media type, else a blob. */
export interface Content {
  readonly mediaType: string;
  readonly raw: Uint8Array;
  readonly tags?: readonly string[];
}

export interface Repository {
  readonly manifests: Map<string, Content>;
  readonly blobs: Map<string, Content>;
  readonly tags: Map<string, Digest>;
}

interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** Answers as distribution-spec "Pull" and "Content discovery" want it. */
export function answer(
  repositories: Map<string, Repository>,
  tokenServer: TokenServer | undefined,
  exchange: Exchange,
): ServerResponse {
  const { request, response } = exchange;
  const url = new URL(request.url ?? '/', `http://${request.headers.host}`);
  if (tokenServer && url.pathname === '/token') return tokenServer.give(request, response);
  const [, name = '', kind, reference = ''] =
    /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/([^/]+)$/.exec(url.pathname) ?? [];
  if (tokenServer && !tokenServer.admits(request, name)) return tokenServer.challenge(request, response, name);
  if (url.pathname === '/v2/') return sendJson(response, {});
  if (request.method !== 'GET' && request.method !== 'HEAD') return sendError(response, 405, 'UNSUPPORTED');
  const repository = repositories.get(name);
  if (!repository) return sendError(response, 404, 'NAME_UNKNOWN');
  if (kind === 'manifests') return sendManifest(exchange, repository, reference);
  if (kind === 'blobs') return sendBlob(exchange, repository, reference);
  if (kind === 'referrers') return sendReferrers(response, repository, { digest: reference, query: url.searchParams });
  return sendTags(response, repository, { name, query: url.searchParams });
}

function sendManifest({ response }: Exchange, repository: Repository, reference: string): ServerResponse {
  const digest = repository.tags.get(reference) ?? reference;
  const content = repository.manifests.get(digest);
  if (!content) return sendError(response, 404, 'MANIFEST_UNKNOWN');
  response.writeHead(200, {
    'content-type': content.mediaType,
    'content-length': content.raw.byteLength,
    'docker-content-digest': digest,
  });
  return response.end(content.raw);
}

function sendBlob({ request, response }: Exchange, repository: Repository, digest: string): ServerResponse {
  const raw = repository.blobs.get(digest)?.raw;
  if (!raw) return sendError(response, 404, 'BLOB_UNKNOWN');
  response.setHeader('content-type', 'application/octet-stream');
  response.setHeader('docker-content-digest', digest);
  response.setHeader('accept-ranges', 'bytes');
  const ranges = request.headers.range ? rangeParser(raw.byteLength, request.headers.range) : undefined;
  if (ranges === -1) {
    response.setHeader('content-range', `bytes */${raw.byteLength}`);
    return sendError(response, 416, 'RANGE_INVALID');
  }
  const range = Array.isArray(ranges) && ranges.type === 'bytes' && ranges.length === 1 ? ranges[0] : undefined;
  if (range) response.setHeader('content-range', `bytes ${range.start}-${range.end}/${raw.byteLength}`);
  const body = range ? raw.subarray(range.start, range.end + 1) : raw;
  response.writeHead(range ? 206 : 200, { 'content-length': body.byteLength });
  return response.end(body);
}

function sendTags(
  response: ServerResponse,
  { tags }: Repository,
  { name, query }: { name: string; query: URLSearchParams },
): ServerResponse {
  const last = query.get('last') ?? '';
  const rest = [...tags.keys()].sort().filter(tag => tag > last);
  const page = query.has('n') ? rest.slice(0, Number(query.get('n'))) : rest;
  const end = page.at(-1);
  if (end !== undefined && page.length < rest.length) {
    response.setHeader('link', `</v2/${name}/tags/list?n=${page.length}&last=${end}>; rel="next"`);
  }
  return sendJson(response, { name, tags: page });
}

const referrerSchema = z.object({
  artifactType: z.string().optional(),
  config: z.object({ mediaType: z.string() }).optional(),
  subject: z.object({ digest: z.string() }),
  annotations: z.record(z.string(), z.string()).optional(),
});

function sendReferrers(
  response: ServerResponse,
  { manifests }: Repository,
  { digest, query }: { digest: string; query: URLSearchParams },
): ServerResponse {
  const wanted = query.get('artifactType');
  const descriptors = [...manifests].flatMap(([referrer, { mediaType, raw }]) => {
    const { success, data } = referrerSchema.safeParse(JSON.parse(new TextDecoder().decode(raw)));
    const artifactType = data?.artifactType ?? data?.config?.mediaType;
    if (!success || data.subject.digest !== digest || (wanted !== null && artifactType !== wanted)) return [];
    return [{ mediaType, digest: referrer, size: raw.byteLength, artifactType, annotations: data.annotations }];
  });
  if (wanted !== null) response.setHeader('oci-filters-applied', 'artifactType');
  const mediaType = 'application/vnd.oci.image.index.v1+json';
  return sendJson(response, { schemaVersion: 2, mediaType, manifests: descriptors }, { 'content-type': mediaType });
}

function sendJson(response: ServerResponse, value: unknown, headers: Record<string, string> = {}): ServerResponse {
  const body = JSON.stringify(value);
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    ...headers,
  });
  return response.end(body);
}

/** Answers as distribution-spec "Error Codes" wants it; tests use it in interceptions too. */
export function sendError(response: ServerResponse, status: number, code: string): ServerResponse {
  response.writeHead(status, { 'content-type': 'application/json' });
  return response.end(JSON.stringify({ errors: [{ code, message: code.toLowerCase(), detail: null }] }));
}
