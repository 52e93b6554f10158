// How real registries answer otherwise than the specification's words: each dialect is an interception of the test registry, and was seen in
// some registry, or in what stands before one.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { z } from 'zod';
import type { Intercept } from './registry.ts';

/** All but the redirects, tokens and lists of tags. */
export const dialects: Readonly<Record<string, Intercept>> = {
  'HEAD of a manifest is 400': refuseHead(400),
  'HEAD of a manifest is 403 (registry.centos.org)': refuseHead(403),
  'HEAD of a manifest is 404 (Nexus)': refuseHead(404),
  'HEAD of a manifest is 405 (GitHub Packages)': refuseHead(405),
  'HEAD of a manifest is 501 (old gateways)': refuseHead(501),
  'no Docker-Content-Digest (ECR of old)': withHeaders(without('docker-content-digest')),
  'Docker-Content-Digest twice': withHeaders(({ 'docker-content-digest': digest, ...rest }) => ({
    ...rest,
    ...(digest && { 'docker-content-digest': [`${digest}`, `${digest}`] }),
  })),
  'manifests as text/plain (raw files behind a web server)': typedAs('text/plain'),
  'manifests as binary/octet-stream (S3)': typedAs('binary/octet-stream'),
  'manifests as application/json with a charset': typedAs('application/json; charset=utf-8'),
  'manifest types with a charset, in capitals': withHeaders(headers => ({
    ...headers,
    'content-type': `${headers['content-type']}; Charset=UTF-8`.replace('application/', 'Application/'),
  })),
  'no Content-Type': onManifests(without('content-type')),
  'no Content-Length': withHeaders(without('content-length')),
  'connections that close': withHeaders(headers => ({ ...headers, connection: 'close' })),
  'chunks with trailers': sendTrailers,
  'an answer of HTTP/1.0': answerInHttp10,
  'a status 203 (a proxy that changed something)': withHeaders(headers => headers, 203),
  'a Content-Encoding of nothing (S3)': withHeaders(headers => ({ ...headers, 'content-encoding': '' })),
  'a Content-Encoding of aws-chunked (S3-like stores)': withHeaders(headers => ({
    ...headers,
    'content-encoding': 'aws-chunked',
  })),
  'a Content-Encoding of Identity': withHeaders(headers => ({ ...headers, 'content-encoding': 'Identity' })),
  'blobs at a relative address, for GET alone (Docker Hub)': redirectBlobs(307, '../../../../store'),
  'blobs at another path by 301': redirectBlobs(301, '/store'),
  'blobs at another path by 302 (Quay)': redirectBlobs(302, '/store'),
  'blobs at another path by 303': redirectBlobs(303, '/store'),
  'blobs at another path by 308': redirectBlobs(308, '/store'),
  'a first half, and then the whole where the rest is asked for': cutBlobs(),
};

/** Of the token that it wants: what its challenge is, and what its token server answers. */
export const tokenDialects: Readonly<Record<string, Intercept>> = {
  'the other name of a token': wantToken({ answer: { access_token: 'x' } }),
  'null for a token under its first name': wantToken({ answer: { token: null, access_token: 'x' } }),
  'null for all that is not needed': wantToken({ answer: { token: 'x', expires_in: null, issued_at: null } }),
  'an end at once, in parts of a second': wantToken({ answer: { token: 'x', expires_in: 0.5 } }),
  'a status 203 for the token': wantToken({ status: 203 }),
  'Basic beside Bearer, in one header': wantToken({ challenge: bearer => `Basic realm="x", ${bearer}` }),
  'Basic and Bearer, each in a header': wantToken({ challenge: bearer => [bearer, 'Basic realm="x"'] }),
  'odd cases in the challenge': wantToken({
    challenge: bearer => bearer.replace('Bearer realm', 'bearer REALM').replace('service', 'Service'),
  }),
  'spaces around the commas': wantToken({ challenge: bearer => bearer.replaceAll(',', ' ,  ') }),
  'several scopes in one': wantToken({ scope: 'repository:library/app:pull repository:other:pull' }),
  'no service and no scope': wantToken({ challenge: bearer => bearer.replace(/,.*/, '') }),
  'a realm with a slash at its end': wantToken({ path: '/token/' }),
};

/** Pages of tags. */
export const tagDialects: Readonly<Record<string, Intercept>> = {
  'words of its own for the next page (Quay)': listTags(after => `/v2/library/app/tags/list?next_page=${after}`),
  'an absolute address of the next page': listTags(
    (after, request) => `http://${request.headers.host}/v2/library/app/tags/list?after=${after}`,
  ),
  'an empty page in between': listTags(after => `/v2/library/app/tags/list?after=${after}`, true),
  'all at once, whatever is asked for (GCR)': (request, response) =>
    isTags(request) && sendJson(response, { name: 'library/app', child: [], manifest: {}, tags: TAGS }),
};

export const TAGS: readonly string[] = ['1', ...Array.from({ length: 9 }, (_, i) => `v${i}`)];

type ChangeHeaders = (headers: OutgoingHttpHeaders) => OutgoingHttpHeaders;

/** Changes what the registry itself answers, when it is good. */
function withHeaders(change: ChangeHeaders, status = 200): Intercept {
  return (_request, response) => {
    const writeHead = response.writeHead.bind(response);
    response.writeHead = (code: number, ...rest: unknown[]) => {
      const given = z
        .record(z.string(), z.union([z.string(), z.number(), z.array(z.string())]))
        .parse(rest.at(-1) ?? {});
      const headers = { ...response.getHeaders(), ...given };
      for (const name of response.getHeaderNames()) response.removeHeader(name);
      return code === 200 ? writeHead(status, change(headers)) : writeHead(code, headers);
    };
    return false;
  };
}

function sendTrailers(request: IncomingMessage, response: ServerResponse): boolean {
  if (request.method === 'HEAD') return false;
  const end = response.end.bind(response);
  response.end = (body?: unknown) => {
    if (body instanceof Uint8Array || typeof body === 'string') response.write(body);
    response.addTrailers({ 'x-checksum': 'none' });
    return end();
  };
  return withHeaders(({ 'content-length': _, ...headers }) => ({
    ...headers,
    'transfer-encoding': 'chunked',
    trailer: 'x-checksum',
  }))(request, response);
}

function onManifests(change: ChangeHeaders): Intercept {
  const intercept = withHeaders(change);
  return (request, response) => isManifest(request) && intercept(request, response);
}

function without(name: string): ChangeHeaders {
  return ({ [name]: _, ...headers }) => headers;
}

function typedAs(contentType: string): Intercept {
  return onManifests(headers => ({ ...headers, 'content-type': contentType }));
}

const isManifest = ({ url }: IncomingMessage) => url?.includes('/manifests/') === true;
const isTags = ({ url }: IncomingMessage) => url?.includes('/tags/list') === true;

function refuseHead(status: number): Intercept {
  return (request, response) =>
    request.method === 'HEAD' && isManifest(request) && Boolean(response.writeHead(status).end());
}

/** Without a length, its body ends with the connection. */
function answerInHttp10(request: IncomingMessage, response: ServerResponse): boolean {
  response.useChunkedEncodingByDefault = false;
  response.shouldKeepAlive = false;
  const { socket } = request;
  const write = socket.write.bind(socket);
  socket.write = (data: unknown, ...rest: unknown[]) => {
    const sent = typeof data === 'string' ? data.replace(/^HTTP\/1\.1 /, 'HTTP/1.0 ') : data;
    return Reflect.apply(write, socket, [sent, ...rest]);
  };
  return withHeaders(without('content-length'))(request, response);
}

function redirectBlobs(status: number, to: string): Intercept {
  return (request, response) => {
    const [, digest] = /\/v2\/library\/app\/blobs\/([^/?]+)$/.exec(request.url ?? '') ?? [];
    if (digest) return Boolean(response.writeHead(status, { location: `${to}/${digest}?signed=GET` }).end());
    const [, stored] = /^\/store\/([^/?]+)\?signed=GET$/.exec(request.url ?? '') ?? [];
    if (stored && request.method === 'HEAD') return Boolean(response.writeHead(403).end());
    if (stored) request.url = `/v2/library/app/blobs/${stored}`;
    return false;
  };
}

/** The first answer for each blob breaks off; a Range is never heard of. */
function cutBlobs(): Intercept {
  const cut = new Set<string>();
  return (request, response) => {
    const { url = '' } = request;
    if (request.method !== 'GET' || !url.includes('/blobs/')) return false;
    delete request.headers.range;
    if (cut.has(url)) return false;
    cut.add(url);
    const end = response.end.bind(response);
    response.end = (body?: unknown) => {
      if (!(body instanceof Uint8Array)) return end();
      response.write(body.subarray(0, body.byteLength / 2), () => request.socket.destroySoon());
      return response;
    };
    return false;
  };
}

interface WantedToken {
  readonly answer?: object;
  readonly status?: number;
  readonly challenge?: (bearer: string) => string | string[];
  readonly scope?: string;
  readonly path?: string;
}

function wantToken({
  answer = { token: 'x' },
  status = 200,
  challenge = bearer => bearer,
  scope = 'repository:library/app:pull',
  path = '/token',
}: WantedToken): Intercept {
  return (request, response) => {
    if (request.url?.split('?', 1)[0] === path) return sendJson(response, answer, {}, status);
    if (request.headers.authorization === 'Bearer x') return false;
    const bearer = `Bearer realm="http://${request.headers.host}${path}",service="test",scope="${scope}"`;
    return sendJson(response, { errors: null, details: 'sign in' }, { 'www-authenticate': challenge(bearer) }, 401);
  };
}

function listTags(next: (after: number, request: IncomingMessage) => string, hasEmptyPage = false): Intercept {
  return (request, response) => {
    if (!isTags(request)) return false;
    const query = new URL(request.url ?? '', 'http://registry').searchParams;
    const at = Number(query.get('next_page') ?? query.get('after') ?? 0);
    const isEmpty = hasEmptyPage && at === 4 && !query.has('again');
    const after = isEmpty ? at : at + 4;
    const more = `<${next(after, request)}${isEmpty ? '&again=1' : ''}>; rel="next"`;
    const link = isEmpty || after < TAGS.length ? { link: more } : {};
    return sendJson(response, { name: 'library/app', tags: isEmpty ? null : TAGS.slice(at, at + 4) }, link);
  };
}

function sendJson(response: ServerResponse, value: unknown, headers: OutgoingHttpHeaders = {}, status = 200): boolean {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
  return true;
}
