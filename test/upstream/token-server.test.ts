// Token servers: what they are sent, by which method, and where we send nothing at all.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { failure, json, listen, lookupAt, openUpstream, type Server } from './server.ts';

const credentials = { username: 'me', password: 'canary-password' };
const identity = { username: 'me', identityToken: 'canary-identity' };

type Answer = (req: IncomingMessage, res: ServerResponse) => void;

/** A registry that takes any token, and wants it from `realm`. */
async function listenFor(realm: (server: Server) => string): Promise<Server> {
  const server = await listen((req, res) => {
    if (req.headers.authorization?.startsWith('Bearer ')) return res.end('{}');
    return json(res, 401, {}, { 'www-authenticate': `Bearer realm="${realm(server)}",service="svc",scope="s:a:pull"` });
  });
  return server;
}

/** A token server of its own, and a registry that names it. */
async function listenWith(answer: Answer) {
  const tokens = await listen(answer);
  return { tokens, server: await listenFor(() => `${tokens.url}/token?kept=1`) };
}

test('is sent the service and scope by GET, beside what the realm has already', async () => {
  const { tokens, server } = await listenWith((_, res) => json(res, 200, { token: 'x' }));
  await openUpstream({ url: server.url }).getManifest('a', 'b');
  expect(tokens.requests.map(({ method, url }) => `${method} ${url}`)).toEqual([
    'GET /token?kept=1&service=svc&scope=s%3Aa%3Apull',
  ]);
  expect(tokens.requests[0]?.headers['accept-encoding']).toBe('identity');
});

test('is sent an identity token by POST, in the body alone', async () => {
  const bodies: Promise<string>[] = [];
  const { tokens, server } = await listenWith((req, res) => {
    bodies.push(text(req));
    json(res, 200, { access_token: 'x' });
  });
  await openUpstream({ url: server.url, credentials: identity }).getManifest('a', 'b');
  const [request] = tokens.requests;
  expect([request?.method, request?.url]).toEqual(['POST', '/token?kept=1']);
  expect(request?.headers).toMatchObject({ 'content-type': 'application/x-www-form-urlencoded' });
  expect(request?.headers.authorization).toBeUndefined();
  expect(Object.fromEntries(new URLSearchParams(await bodies[0]))).toEqual({
    grant_type: 'refresh_token',
    refresh_token: 'canary-identity',
    client_id: 'veneer',
    service: 'svc',
    scope: 's:a:pull',
  });
});

test.each([404, 405])('is asked by GET with the identity token where it answers POST with %i', async status => {
  const { tokens, server } = await listenWith((req, res) =>
    req.method === 'POST' ? json(res, status, {}) : json(res, 200, { token: 'x' }),
  );
  await openUpstream({ url: server.url, credentials: identity }).getManifest('a', 'b');
  expect(tokens.requests.map(({ method }) => method)).toEqual(['POST', 'GET']);
  const sent = tokens.requests[1]?.headers.authorization;
  expect(sent).toBe(`Basic ${Buffer.from('me:canary-identity').toString('base64')}`);
});

test('is not asked by GET where it refuses the identity token', async () => {
  const { tokens, server } = await listenWith((_, res) => json(res, 401, {}));
  const error = await failure(openUpstream({ url: server.url, credentials: identity }).getManifest('a', 'b'));
  expect(error).toMatchObject({ code: 'UNAUTHORIZED' });
  expect(tokens.requests).toHaveLength(1);
});

const noToken: unknown = expect.stringContaining('has no token');

test.each<[string, (res: ServerResponse) => void, object]>([
  ['a redirect', res => res.writeHead(307, { location: '/token2' }).end(), { status: 502 }],
  ['no token', res => json(res, 200, {}), { status: 502, message: noToken }],
  ['a token that is no header', res => json(res, 200, { token: 'canary\r\nx: y' }), { status: 502, message: noToken }],
  ['text', res => res.end('canary-token'), { status: 502 }],
  ['more than a token can be', res => res.end(Buffer.alloc(70_000, ' ')), { status: 502 }],
  ['a limit', res => json(res, 429, {}, { 'retry-after': '9' }), { status: 429, retryAfterSeconds: 9 }],
  ['a refusal', res => json(res, 401, { details: 'canary' }), { code: 'UNAUTHORIZED' }],
])('that answers with %s is the error', async (_, answer, expected) => {
  const { tokens, server } = await listenWith((_, res) => answer(res));
  const error = await failure(openUpstream({ url: server.url, credentials }).getManifest('a', 'b'));
  expect(error).toMatchObject({ name: 'RegistryError', ...expected });
  expect(tokens.requests).toHaveLength(1);
});

test.each<[string, object, number?]>([
  ['null for the token and the other name for it', { token: null, access_token: 'x' }],
  ['null for the other name', { token: 'x', access_token: null }],
  ['an empty token and the other name', { token: '', access_token: 'x' }],
  ['no text for the token and the other name', { token: 7, access_token: 'x' }],
  ['null for all else', { token: 'x', refresh_token: null, expires_in: null, issued_at: null }],
  ['times that are none', { token: 'x', expires_in: 0, issued_at: 'yesterday' }],
  ['a time in parts', { token: 'x', expires_in: 299.5, issued_at: 12 }],
  ['status 201', { token: 'x' }, 201],
  ['status 203', { token: 'x' }, 203],
])('may answer with %s', async (_, token, status = 200) => {
  const { tokens, server } = await listenWith((_, res) => json(res, status, token));
  await openUpstream({ url: server.url, credentials }).getManifest('a', 'b');
  expect(server.requests.at(-1)?.headers.authorization).toBe('Bearer x');
  expect(tokens.requests).toHaveLength(1);
});

test('may answer with a byte order mark before its JSON', async () => {
  const { server } = await listenWith((_, res) => res.end(`\ufeff${JSON.stringify({ token: 'x' })}`));
  await openUpstream({ url: server.url, credentials }).getManifest('a', 'b');
  expect(server.requests.at(-1)?.headers.authorization).toBe('Bearer x');
});

test('of another domain gets nothing', async () => {
  const thief = await listen((_, res) => json(res, 200, { token: 'x' }));
  const server = await listenFor(() => thief.url.replace('127.0.0.1', 'localhost'));
  const error = await failure(openUpstream({ url: server.url, credentials }).getManifest('a', 'b'));
  expect(error).toMatchObject({ status: 502, message: expect.stringContaining('realm') });
  expect(thief.requests).toHaveLength(0);
});

test('of another domain is asked where the entry names it', async () => {
  const tokens = await listen((_, res) => json(res, 200, { token: 'x' }));
  const server = await listenFor(() => `http://auth.other.test:${tokens.port}/token`);
  const tokenRealms = [`auth.other.test:${tokens.port}`];
  const upstream = openUpstream({ url: server.url, credentials, tokenRealms }, { lookup: lookupAt('127.0.0.1') });
  await upstream.getManifest('a', 'b');
  expect(tokens.requests).toHaveLength(1);
});

test('of the same domain at a private address is asked only where the entry names it', async () => {
  const tokens = await listen((_, res) => json(res, 200, { token: 'x' }));
  const server = await listenFor(() => `http://auth.lab.test:${tokens.port}/token`);
  const url = `http://registry.lab.test:${server.port}`;
  const lookup = lookupAt('127.0.0.1');
  const error = await failure(openUpstream({ url, credentials }, { lookup }).getManifest('a', 'b'));
  expect(error).toMatchObject({ code: 'DENIED', message: expect.stringContaining('auth.lab.test') });
  expect(tokens.requests).toHaveLength(0);
  const tokenRealms = [`auth.lab.test:${tokens.port}`];
  await openUpstream({ url, credentials, tokenRealms }, { lookup }).getManifest('a', 'b');
  expect(tokens.requests).toHaveLength(1);
});

test('without TLS gets nothing from an upstream with TLS', async () => {
  const thief = await listen((_, res) => json(res, 200, { token: 'x' }));
  const challenge = `Bearer realm="${thief.url}/token"`;
  const server = await listen((_, res) => json(res, 401, {}, { 'www-authenticate': challenge }), {});
  const error = await failure(
    openUpstream({ url: server.url, credentials, tls: { insecure: true } }).getManifest('a', 'b'),
  );
  expect(error).toMatchObject({ status: 502, message: expect.stringContaining('not https') });
  expect(thief.requests).toHaveLength(0);
});
