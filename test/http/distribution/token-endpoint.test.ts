// The token endpoint, and the way of docker through it: a challenge, a token, the request again.
import { once } from 'node:events';
import { Writable } from 'node:stream';
import { serve } from '@hono/node-server';
import { getConnInfo } from '@hono/node-server/conninfo';
import { type Context, Hono } from 'hono';
import { pino } from 'pino';
import { describe, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { createTokenEndpoint } from '../../../src/http/distribution/token-endpoint.ts';
import { createAuthentication, requireCaller, requireRight } from '../../../src/http/middleware/authentication.ts';
import { createErrorHandler } from '../../../src/http/middleware/errors.ts';
import { createRequestLog } from '../../../src/http/middleware/request-log.ts';
import { createAccessLog, createRequestScope } from '../../../src/observe/request.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { basic, openAccess } from '../../access/fixture.ts';

const USERS = { ci: 'canary-password', reader: 'reader-password' };
const GRANTS = [
  { users: ['ci'], repositories: ['local/**'], allow: ['pull', 'push'] },
  { users: ['reader'], repositories: ['local/**'], allow: ['pull'] },
  { anyone: true, repositories: ['docker.io/**'], allow: ['pull'] },
] as const;

const answerSchema = z.strictObject({
  token: z.string(),
  access_token: z.string(),
  token_type: z.literal('Bearer'),
  scope: z.string(),
  expires_in: z.number(),
  issued_at: z.iso.datetime(),
});

describe('GET /token', () => {
  test('answers as clients of both specifications read it, and lets nobody keep it', async () => {
    const { request } = await createApp();
    const response = await request('/token?service=veneer&scope=repository:local/app:pull,push&account=ci', {
      headers: { authorization: basic('ci', USERS.ci) },
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('Cache-Control')).toBe('no-store');
    const answer = answerSchema.parse(await response.json());
    expect(answer).toMatchObject({
      scope: 'repository:local/app:pull,push',
      expires_in: 300,
      issued_at: '2030-01-01T00:00:00.000Z',
    });
    expect(answer.access_token).toBe(answer.token);
  });

  test.each([
    ['all of it', 'ci', ['repository:local/app:pull,push'], 'repository:local/app:pull,push'],
    ['a part', 'reader', ['repository:local/app:pull,push'], 'repository:local/app:pull'],
    ['nothing of what nobody granted', 'ci', ['repository:quay.io/app:pull'], ''],
    ['what anyone may', 'reader', ['repository:library/alpine:pull'], 'repository:docker.io/library/alpine:pull'],
    ['by any name of a repository', 'ci', ['repository:alpine:pull'], 'repository:docker.io/library/alpine:pull'],
    ['nothing of a name that means nothing', 'ci', ['repository:closed.example/app:pull'], ''],
    [
      'several',
      'ci',
      ['repository:local/a:pull', 'repository:local/b:push'],
      'repository:local/a:pull repository:local/b:push',
    ],
    ['nothing when nothing is asked for', 'ci', [], ''],
    ['nothing of the catalog', 'ci', ['registry:catalog:*'], ''],
  ])('grants %s', async (_name, user, scopes, expected) => {
    const { request } = await createApp();
    const query = new URLSearchParams([['service', 'veneer'], ...scopes.map(scope => ['scope', scope])]);
    const authorization = basic(user, user === 'ci' ? USERS.ci : USERS.reader);
    const response = await request(`/token?${query}`, { headers: { authorization } });
    expect(answerSchema.parse(await response.json()).scope).toBe(expected);
  });

  test('gives anyone a token for what anyone may', async () => {
    const { request } = await createApp();
    const response = await request('/token?scope=repository:library/alpine:pull&scope=repository:local/app:pull');
    expect(answerSchema.parse(await response.json()).scope).toBe('repository:docker.io/library/alpine:pull');
  });

  test.each([
    ['a wrong password', basic('ci', 'canary')],
    ['an unknown user', basic('canary', USERS.ci)],
    ['a header that is none', 'Basic canary'],
  ])('refuses %s with 401 and the errors of the registry', async (_name, authorization) => {
    const { request } = await createApp();
    const response = await request('/token?service=veneer', { headers: { authorization } });
    expect(response.status).toBe(401);
    expect(response.headers.get('WWW-Authenticate')).toBe('Basic realm="veneer",charset="UTF-8"');
    expect(await response.json()).toMatchObject({ errors: [{ code: 'UNAUTHORIZED', message: expect.any(String) }] });
  });

  test('a bearer token gets no other', async () => {
    const { request } = await createApp();
    const { token } = answerSchema.parse(await (await request('/token')).json());
    expect((await request('/token', { headers: { authorization: `Bearer ${token}` } })).status).toBe(401);
  });

  test.each([
    ['another service', 'service=registry.docker.io'],
    ['a scope that is none', 'scope=everything'],
    ['a name that is none', 'scope=repository:Local:pull'],
  ])('refuses %s with 400', async (_name, query) => {
    const { request } = await createApp();
    const response = await request(`/token?${query}`);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ errors: [{ message: expect.any(String) }] });
  });
});

describe('POST /token', () => {
  const post = async (form: Record<string, string>) => {
    const { request, tokens } = await createApp();
    const permissions = [{ repositories: ['local/**'], allow: ['pull', 'delete'] }] as const;
    const { secret } = await tokens.issue({ name: 'x', permissions, ttlMs: 60_000 });
    const filled = Object.entries(form).map(([name, value]) => [name, value === 'SECRET' ? secret : value]);
    return request('/token', { method: 'POST', body: new URLSearchParams(filled) });
  };
  const client = {
    service: 'veneer',
    client_id: 'test',
    scope: 'repository:local/a:pull,push repository:local/b:delete',
  };

  test.each([
    ['a password', { grant_type: 'password', username: 'ci', password: USERS.ci }, 'repository:local/a:pull,push'],
    [
      'an access token as password',
      { grant_type: 'password', username: 'ci', password: 'SECRET' },
      'repository:local/a:pull repository:local/b:delete',
    ],
    [
      'an access token as refresh token',
      { grant_type: 'refresh_token', refresh_token: 'SECRET' },
      'repository:local/a:pull repository:local/b:delete',
    ],
  ])('takes %s', async (_name, form, scope) => {
    const response = await post({ ...client, ...form });
    expect(response.status).toBe(200);
    expect(answerSchema.parse(await response.json()).scope).toBe(scope);
  });

  test.each([
    ['a wrong password', { grant_type: 'password', username: 'ci', password: 'canary' }, 401],
    ['no password', { grant_type: 'password' }, 401],
    ['a password as refresh token', { grant_type: 'refresh_token', refresh_token: USERS.ci }, 401],
    ['another grant type', { grant_type: 'client_credentials' }, 400],
    ['no grant type', {}, 400],
    ['another service', { grant_type: 'password', service: 'other' }, 400],
    ['a form of more than 16 KiB', { grant_type: 'password', username: 'ci', password: 'x'.repeat(17 * 1024) }, 413],
  ])('refuses %s', async (_name, form, status) => {
    const response = await post({ ...client, ...form });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ errors: [{ code: expect.any(String) }] });
  });
});

test.each([
  ['a user', 'ci', USERS.ci, 200],
  ['a user who may only pull', 'reader', USERS.reader, 403],
])('docker logs in, pulls and pushes through real HTTP: %s', async (_name, username, password, pushed) => {
  const { url } = await listen();
  const docker = createClient(url, { username, password });
  expect((await docker('GET', '/v2/')).status).toBe(200);
  expect((await docker('GET', '/v2/local/app/manifests/1', 'pull')).status).toBe(200);
  const push = await docker('PUT', '/v2/local/app/manifests/1', 'pull,push');
  expect(push.status).toBe(pushed);
  expect((await docker('GET', '/v2/library/alpine/manifests/1', 'pull')).status).toBe(200);
  expect((await docker('DELETE', '/v2/local/app/manifests/1', 'delete')).status).toBe(403);
});

test('docker pulls with no login what anyone may, and nothing else', async () => {
  const { url } = await listen();
  const docker = createClient(url);
  expect((await docker('GET', '/v2/library/alpine/manifests/1', 'pull')).status).toBe(200);
  const refused = await docker('GET', '/v2/local/app/manifests/1', 'pull');
  expect(refused.status).toBe(401);
  expect(await refused.json()).toMatchObject({
    errors: [{ message: expect.stringContaining('an anonymous bearer token may not pull local/app') }],
  });
});

test('docker login with a wrong password fails at the token endpoint', async () => {
  const { url } = await listen();
  await expect(createClient(url, { username: 'ci', password: 'wrong' })('GET', '/v2/')).rejects.toThrow('token: 401');
});

test('no password, token or hash is in the log or in an answer to somebody else', async () => {
  const { request, tokens, lines } = await createApp('trace');
  const { secret } = await tokens.issue({ name: 'x', permissions: [], ttlMs: 60_000 });
  const secrets = [USERS.ci, secret, basic('ci', USERS.ci), basic('x', secret)];
  const { token } = answerSchema.parse(await (await request('/token', authorized(basic('ci', USERS.ci)))).json());
  const attempts = [
    ...secrets.flatMap(text => [
      `Digest ${text}`,
      `Bearer ${text}`,
      `Basic ${text}`,
      text,
      basic(text, 'wrong'),
      basic('ci', `${text}x`),
    ]),
    basic('x', secret),
    `Bearer ${token}`,
    `Bearer ${token}x`,
  ];
  const answers: string[] = [];
  for (const authorization of attempts) {
    for (const path of ['/v2/', '/v2/local/app/manifests/1', '/token?scope=nonsense']) {
      const response = await request(path, authorized(authorization));
      answers.push(JSON.stringify([...response.headers]), await response.text());
    }
  }
  const seen = [...answers, ...lines].join('\n');
  expect(lines.length).toBeGreaterThan(attempts.length);
  expect(seen).toContain('UNAUTHORIZED');
  for (const text of [...secrets, token, 'canary', secret.slice(4, 20), '$2b$']) expect(seen).not.toContain(text);
});

function authorized(authorization: string): RequestInit {
  return { headers: { authorization } };
}

/** What docker does: it asks, reads the challenge of a 401, gets a token from its realm, and asks again. */
function createClient(url: string, login?: { readonly username: string; readonly password: string }) {
  return async (method: string, path: string, actions?: string): Promise<Response> => {
    const first = await fetch(url + path, { method });
    if (first.status !== 401) return first;
    await first.body?.cancel();
    const header = first.headers.get('WWW-Authenticate') ?? '';
    const parameters = new Map(
      [...header.matchAll(/(\w+)="([^"]*)"/g)].map(([, name = '', value = '']) => [name, value]),
    );
    const name = /^\/v2\/(.+)\/manifests\//.exec(path)?.[1];
    const realm = new URL(parameters.get('realm') ?? '');
    realm.searchParams.set('service', parameters.get('service') ?? '');
    if (name) realm.searchParams.set('scope', `repository:${name}:${actions}`);
    if (login) realm.searchParams.set('account', login.username);
    const headers = login && { authorization: basic(login.username, login.password) };
    const response = await fetch(realm, headers ? { headers } : {});
    if (!response.ok) throw new Error(`token: ${response.status}`);
    const { token } = answerSchema.parse(await response.json());
    return fetch(url + path, { method, headers: { authorization: `Bearer ${token}` } });
  };
}

async function listen(): Promise<{ readonly url: string }> {
  const { app } = await createApp();
  const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  onTestFinished(() => new Promise(resolve => server.close(() => resolve())));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening on a port');
  return { url: `http://127.0.0.1:${address.port}` };
}

async function createApp(level = 'silent') {
  const fixture = await openAccess({ users: USERS, grants: GRANTS });
  const { access } = fixture;
  if (!access.bearer) throw new Error('no bearer tokens');
  const lines: string[] = [];
  const log = pino({ level }, new Writable({ write: (line, _encoding, done) => done(void lines.push(String(line))) }));
  const addressOf = (c: Context) => (c.env ? getConnInfo(c).remote.address : undefined);
  const app = new Hono();
  app.use(
    createRequestLog({
      scope: createRequestScope(),
      findAddress: () => undefined,
      onEnd: createAccessLog(log),
    }),
  );
  app.onError(createErrorHandler(log));
  app.route('/', createTokenEndpoint({ bearer: access.bearer, normalizeName, addressOf }));
  app.use('/v2/*', createAuthentication({ access, publicUrl: undefined, addressOf }));
  app.get('/v2/', c => {
    requireCaller(c);
    return c.json({});
  });
  for (const [method, verb] of [
    ['GET', 'pull'],
    ['PUT', 'push'],
    ['DELETE', 'delete'],
  ] as const) {
    app.on(method, '/v2/:name{.+}/manifests/:reference', c => {
      requireRight(c, verb, normalizeName(c.req.param('name') ?? ''));
      return c.text('done');
    });
  }
  const request = async (path: string, init?: RequestInit) => app.request(path, init);
  return { ...fixture, app, lines, request };
}

/** A small part of what the proxy knows: names with no registry are of docker.io, but for hosted ones. */
function normalizeName(name: string): string {
  if (name.startsWith('closed.example/')) throw new RegistryError('DENIED', 'closed');
  if (name.startsWith('local/') || name.includes('.')) return name;
  return name.includes('/') ? `docker.io/${name}` : `docker.io/library/${name}`;
}
