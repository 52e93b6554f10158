// Tokens and basic credentials: how long they are kept, how often they are fetched, and when we give up.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import { createTestClock, failure, json, listen, openUpstream, type Server } from './server.ts';

const credentials = { username: 'me', password: 'canary-password' };
const basic = `Basic ${Buffer.from('me:canary-password').toString('base64')}`;

interface Tokens {
  /** Fields of the token server's answer, besides the token. */
  readonly fields?: object;
  readonly accepts?: (req: IncomingMessage) => boolean;
  /** The status of the answer to an accepted token. */
  readonly status?: (req: IncomingMessage) => number;
}

/** A registry that wants a token of its own. */
async function listenWithTokens({ fields, accepts, status = () => 200 }: Tokens = {}) {
  const isToken = (req: IncomingMessage) => req.url?.startsWith('/token');
  const tokens = () => server.requests.filter(isToken);
  const answer = (req: IncomingMessage, res: ServerResponse) => {
    if (isToken(req)) return json(res, 200, { token: `token-${tokens().length}`, ...fields });
    if (accepts ? accepts(req) : req.headers.authorization?.startsWith('Bearer token'))
      return json(res, status(req), {});
    const parameters = `realm="${server.url}/token",service="svc, \\"x\\"",scope="repository:a:pull"`;
    return json(res, 401, {}, { 'www-authenticate': `Bearer ${parameters}` });
  };
  const server: Server = await listen(answer);
  return { server, tokens };
}

test('fetches a token with the credentials and keeps it for the scope', async () => {
  const { server, tokens } = await listenWithTokens();
  const upstream = openUpstream({ url: server.url, credentials });
  await upstream.getManifest('a', 'b');
  await upstream.getManifest('a', 'c');
  expect(tokens()).toHaveLength(1);
  expect(tokens()[0]?.headers.authorization).toBe(basic);
  const query = new URL(tokens()[0]?.url ?? '', server.url).searchParams;
  expect([query.get('service'), query.get('scope')]).toEqual(['svc, "x"', 'repository:a:pull']);
});

test('fetches one token for many who wait', async () => {
  const { server, tokens } = await listenWithTokens();
  const upstream = openUpstream({ url: server.url });
  await Promise.all(Array.from({ length: 10 }, () => upstream.getManifest('a', 'b')));
  expect(tokens()).toHaveLength(1);
  expect(tokens()[0]?.headers.authorization).toBeUndefined();
});

test('lets one who waits for a token leave, and continues for the others', async () => {
  const leave = new AbortController();
  const { server, tokens } = await listenWithTokens();
  const upstream = openUpstream({ url: server.url });
  const left = failure(upstream.getManifest('a', 'b', { signal: leave.signal }));
  const stayed = upstream.getManifest('a', 'b');
  leave.abort(new Error('gone'));
  expect(await left).toMatchObject({ message: 'gone' });
  await stayed;
  expect(tokens()).toHaveLength(1);
});

test('asks once for a fresh token when the kept one is refused', async () => {
  let valid = 'Bearer token-1';
  const { server, tokens } = await listenWithTokens({ accepts: req => req.headers.authorization === valid });
  const upstream = openUpstream({ url: server.url });
  await upstream.getManifest('a', 'b');
  valid = 'Bearer token-2';
  await upstream.getManifest('a', 'b');
  expect(tokens()).toHaveLength(2);
});

test('asks once for a fresh token when the kept one gets a 403: some registries say so when it has expired', async () => {
  let expired = '';
  const isExpired = (req: IncomingMessage) => req.headers.authorization === expired;
  const { server, tokens } = await listenWithTokens({ status: req => (isExpired(req) ? 403 : 200) });
  const upstream = openUpstream({ url: server.url });
  await upstream.getManifest('a', 'b');
  expired = 'Bearer token-1';
  await upstream.getManifest('a', 'b');
  expect(tokens()).toHaveLength(2);
});

test('ends with DENIED when a fresh token gets a 403', async () => {
  const { server, tokens } = await listenWithTokens({ status: () => 403 });
  const upstream = openUpstream({ url: server.url });
  expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ code: 'DENIED' });
  expect([tokens().length, server.requests.length]).toEqual([1, 3]);
  expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ code: 'DENIED' });
  expect([tokens().length, server.requests.length]).toEqual([2, 7]);
});

test('ends with UNAUTHORIZED when every token is refused', async () => {
  const { server, tokens } = await listenWithTokens({ accepts: () => false });
  const error = await failure(openUpstream({ url: server.url, credentials }).getManifest('a', 'b'));
  expect(error).toMatchObject({ code: 'UNAUTHORIZED', status: 401 });
  expect([tokens().length, server.requests.length]).toEqual([1, 3]);
});

test.each<[string, object, number]>([
  ['300 seconds', { expires_in: 300 }, 270],
  ['no word of it', {}, 54],
  ['nothing', { expires_in: 0 }, 54],
  ['less than nothing', { expires_in: -5 }, 54],
  ['text', { expires_in: '300' }, 54],
  ['three centuries', { expires_in: 1e10 }, 3240],
  ['more than a number holds', { expires_in: 1e308 }, 3240],
])('uses a token that lives for %s until shortly before its end', async (_, fields, seconds) => {
  const clock = createTestClock();
  const { server, tokens } = await listenWithTokens({ fields });
  const upstream = openUpstream({ url: server.url }, { clock });
  await upstream.getManifest('a', 'b');
  clock.pass(seconds * 1000 - 1);
  await upstream.getManifest('a', 'b');
  expect(tokens()).toHaveLength(1);
  clock.pass(1);
  await upstream.getManifest('a', 'b');
  expect(tokens()).toHaveLength(2);
});

test('answers a basic challenge, and asks for the credentials again after five minutes', async () => {
  const clock = createTestClock();
  const server = await listen((req, res) =>
    req.headers.authorization === basic ? res.end('{}') : json(res, 401, {}, { 'www-authenticate': 'Basic realm="x"' }),
  );
  const upstream = openUpstream({ url: server.url, credentials }, { clock });
  await upstream.getManifest('a', 'b');
  await upstream.getManifest('a', 'b');
  expect(server.requests).toHaveLength(3);
  clock.pass(300_000);
  await upstream.getManifest('a', 'b');
  expect(server.requests).toHaveLength(5);
});

test('sends no identity token to who wants a password', async () => {
  const server = await listen((_, res) => json(res, 401, {}, { 'www-authenticate': 'Basic realm="x"' }));
  const upstream = openUpstream({ url: server.url, credentials: { username: 'me', identityToken: 'canary' } });
  expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ code: 'UNAUTHORIZED' });
  expect(server.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
});

test.each([
  ['a basic challenge without credentials', 'Basic realm="x"'],
  ['a scheme that we do not know', 'Negotiate abc'],
  ['no scheme at all', '='],
])('says UNAUTHORIZED to %s', async (_, challenge) => {
  const server = await listen((_, res) => json(res, 401, {}, { 'www-authenticate': challenge }));
  const error = await failure(openUpstream({ url: server.url }).getManifest('a', 'b'));
  expect(error).toMatchObject({ code: 'UNAUTHORIZED', message: expect.stringContaining('credentials') });
  expect(server.requests).toHaveLength(1);
});
