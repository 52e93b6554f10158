// Rights at the routes: each kind of route, with each right, for each way to show who one is.
import { Hono } from 'hono';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { type Access, createUnconfiguredAccess } from '../../../src/access/access.ts';
import { type Verb, verbs } from '../../../src/access/right.ts';
import {
  createAuthentication,
  hasRight,
  requireCaller,
  requireRight,
} from '../../../src/http/middleware/authentication.ts';
import { createErrorHandler } from '../../../src/http/middleware/errors.ts';
import { type AccessFixture, type AccessSetup, basic, openAccess } from '../../access/fixture.ts';
import { findOpenRoutes } from '../../access/open-routes.ts';

/** The routes of distribution-spec "Endpoints", and the right that each needs. */
const ROUTES: readonly [method: string, path: string, verb: Verb][] = [
  ['GET', '/v2/:name{.+}/manifests/:reference', 'pull'],
  ['HEAD', '/v2/:name{.+}/manifests/:reference', 'pull'],
  ['GET', '/v2/:name{.+}/blobs/:digest', 'pull'],
  ['HEAD', '/v2/:name{.+}/blobs/:digest', 'pull'],
  ['GET', '/v2/:name{.+}/tags/list', 'pull'],
  ['GET', '/v2/:name{.+}/referrers/:digest', 'pull'],
  ['POST', '/v2/:name{.+}/blobs/uploads/', 'push'],
  ['GET', '/v2/:name{.+}/blobs/uploads/:id', 'push'],
  ['PATCH', '/v2/:name{.+}/blobs/uploads/:id', 'push'],
  ['PUT', '/v2/:name{.+}/blobs/uploads/:id', 'push'],
  ['DELETE', '/v2/:name{.+}/blobs/uploads/:id', 'push'],
  ['PUT', '/v2/:name{.+}/manifests/:reference', 'push'],
  ['DELETE', '/v2/:name{.+}/manifests/:reference', 'delete'],
  ['DELETE', '/v2/:name{.+}/blobs/:digest', 'delete'],
];

const RIGHTS: readonly (readonly Verb[])[] = [[], ['pull'], ['push'], ['delete'], ['pull', 'push'], verbs];
const CALLERS = ['anyone', 'user', 'access token', 'bearer token'] as const;

describe.each(ROUTES)('%s %s needs %s', (method, path, verb) => {
  const cases = CALLERS.flatMap(caller =>
    RIGHTS.map(rights => ({ caller, rights, name: rights.join(' and ') || 'nothing' })),
  );
  test.each(cases)('of $caller with $name', async ({ caller, rights }) => {
    const { app, authorization } = await enter(caller, rights);
    const place = path.replace(':name{.+}', 'local/app').replace(/:\w+/, 'x');
    const response = await app.request(place, { method, headers: authorization ? { authorization } : {} });
    const refused = caller === 'anyone' ? 401 : 403;
    expect(response.status).toBe(rights.includes(verb) ? 200 : refused);
    expect(response.headers.has('WWW-Authenticate')).toBe(response.status === 401);
    const elsewhere = await app.request(place.replace('local/app', 'other/app'), {
      method,
      headers: authorization ? { authorization } : {},
    });
    // Of another repository its bearer token was not asked.
    expect(elsewhere.status).toBe(caller === 'bearer token' ? 401 : refused);
  });
});

test('every route that asks for a right is shut, and one that does not is found', async () => {
  expect(await findOpenRoutes((await createApp()).app)).toEqual([]);
  const { app } = await createApp();
  app.get('/v2/:name{.+}/forgotten/:reference', c => c.text('open'));
  app.delete('/v2/_all', c => c.text('gone'));
  expect(await findOpenRoutes(app)).toEqual([
    'GET /v2/:name{.+}/forgotten/:reference',
    'HEAD /v2/:name{.+}/forgotten/:reference',
    'DELETE /v2/_all',
  ]);
});

test('a route that no authentication goes before is refused', async () => {
  const app = new Hono();
  app.onError(createErrorHandler(pino({ level: 'silent' })));
  app.get('/v2/:name{.+}/tags/list', c => {
    requireRight(c, 'pull', c.req.param('name'));
    return c.text('open');
  });
  expect((await app.request('/v2/local/app/tags/list')).status).toBe(500);
});

describe('a challenge', () => {
  const challengeOf = async (path: string, init: RequestInit = {}, publicUrl?: string) => {
    const { app } = await createApp({ users: { ci: 'right' } }, publicUrl);
    const response = await app.request(path, init);
    expect(response.status).toBe(401);
    expect(response.headers.get('Docker-Distribution-Api-Version')).toBe('registry/2.0');
    expect(await response.json()).toMatchObject({ errors: [{ code: 'UNAUTHORIZED', message: expect.any(String) }] });
    return response.headers.get('WWW-Authenticate');
  };

  test.each([
    ['GET', '/v2/local/app/manifests/1', 'repository:local/app:pull'],
    ['PUT', '/v2/local/app/manifests/1', 'repository:local/app:pull,push'],
    ['DELETE', '/v2/local/app/manifests/1', 'repository:local/app:delete'],
  ])('%s %s asks for %s', async (method, path, scope) => {
    expect(await challengeOf(path, { method })).toBe(
      `Bearer realm="http://localhost/token",service="veneer",scope="${scope}"`,
    );
  });

  test('of GET /v2/ has no scope', async () => {
    expect(await challengeOf('/v2/')).toBe('Bearer realm="http://localhost/token",service="veneer"');
  });

  test('is at the public URL where there is one', async () => {
    const host = { headers: { host: 'elsewhere.example' } };
    expect(await challengeOf('/v2/', host, 'https://registry.example/')).toContain(
      'realm="https://registry.example/token"',
    );
  });

  test('is where the request went, without one', async () => {
    expect(await challengeOf('http://127.0.0.1:8080/v2/')).toContain('realm="http://127.0.0.1:8080/token"');
  });

  test.each([
    ['a wrong password', basic('ci', 'wrong'), undefined],
    ['a bearer token that is none', 'Bearer x', 'invalid_token'],
  ])('to %s names what it may have wanted', async (_name, authorization, error) => {
    const header = await challengeOf('/v2/local/app/blobs/uploads/', { method: 'POST', headers: { authorization } });
    expect(header).toContain('scope="repository:local/app:pull,push,delete"');
    expect(/error="(.*)"/.exec(header ?? '')?.[1]).toBe(error);
  });

  test('to a bearer token with too little says so', async () => {
    const { app, authorization } = await enter('bearer token', ['pull']);
    const response = await app.request('/v2/local/other/manifests/1', { method: 'PUT', headers: { authorization } });
    expect(response.headers.get('WWW-Authenticate')).toMatch(
      /scope="repository:local\/other:pull,push",error="insufficient_scope"$/,
    );
  });
});

describe('GET /v2/', () => {
  test.each(['user', 'access token', 'bearer token'] as const)('is 200 for a %s, whatever it may', async caller => {
    const { app, authorization } = await enter(caller, []);
    expect((await app.request('/v2/', { headers: { authorization } })).status).toBe(200);
  });
});

test('too many wrong passwords from one address are 429 with Retry-After, and others go on', async () => {
  const { app } = await createApp({ users: { ci: 'right' }, grants: [] });
  const login = (password: string, address: string) =>
    app.request('/v2/', { headers: { authorization: basic('ci', password), 'x-test-address': address } });
  for (let i = 0; i < 10; i++) expect((await login(`wrong ${i}`, '10.0.0.1')).status).toBe(401);
  const response = await login('right', '10.0.0.1');
  expect(response.status).toBe(429);
  expect(response.headers.get('Retry-After')).toBe('60');
  expect((await login('right', '10.0.0.2')).status).toBe(200);
});

test.each([
  ['http://127.0.0.1:8080', {}, 200],
  ['http://rebound.example:8080', {}, 403],
  ['http://127.0.0.1:8080', { origin: 'https://page.example' }, 403],
])('without configuration a push to %s with %o is %i', async (url, headers, status) => {
  const access = createUnconfiguredAccess({ isOpen: true });
  const app = routesOf(access);
  const response = await app.request(`${url}/v2/local/app/manifests/1`, { method: 'PUT', headers });
  expect(response.status).toBe(status);
  expect((await app.request(`${url}/v2/local/app/manifests/1`, { headers })).status).toBe(200);
  expect((await app.request(`${url}/v2/`, { headers })).status).toBe(200);
});

test('a mount asks whether its caller may pull from the source', async () => {
  const { app, authorization } = await enter('user', ['pull']);
  app.get('/mount/:name{.+}', c => c.json(hasRight(c, 'pull', c.req.param('name'))));
  const ask = async (name: string) => (await app.request(`/mount/${name}`, { headers: { authorization } })).json();
  expect(await ask('local/app')).toBe(true);
  expect(await ask('other/app')).toBe(false);
});

describe('where the bearers of other services are tolerated', () => {
  test.each([
    ['Bearer of-another-service', 200],
    [basic('ci', 'wrong'), 401],
    [basic('ci', 'right'), 200],
  ])('%s gets %i', async (authorization, status) => {
    const { access } = await openAccess({ users: { ci: 'right' }, grants: [] });
    const app = new Hono();
    app.onError(createErrorHandler(pino({ level: 'silent' })));
    app.use(createAuthentication({ access, publicUrl: undefined, addressOf: () => undefined, toleratesBearers: true }));
    app.post('/v1alpha2/container', c => c.json({ mayPull: hasRight(c, 'pull', 'local/app') }));
    const response = await app.request('/v1alpha2/container', { method: 'POST', headers: { authorization } });
    expect(response.status).toBe(status);
    if (status === 200) expect(await response.json()).toEqual({ mayPull: false });
  });
});

/** An app where `local/app` may be done `rights` by a caller of this kind, and how it shows so. */
async function enter(caller: (typeof CALLERS)[number], rights: readonly Verb[]) {
  const permission = { repositories: ['local/app'], allow: rights };
  const isAnyone = caller === 'anyone';
  const fixture = await createApp({
    users: { ci: 'right' },
    grants: [isAnyone ? { ...permission, anyone: true } : { ...permission, users: ['ci'] }],
  });
  const authorization = await authorize(caller, fixture, rights);
  return { ...fixture, authorization };
}

async function authorize(
  caller: (typeof CALLERS)[number],
  fixture: AccessFixture,
  rights: readonly Verb[],
): Promise<string> {
  switch (caller) {
    case 'anyone':
      return '';
    case 'user':
      return basic('ci', 'right');
    case 'access token': {
      const permissions = [{ repositories: ['local/app'], allow: rights }];
      return basic('x', (await fixture.tokens.issue({ name: 'ci', permissions, ttlMs: 60_000 })).secret);
    }
    case 'bearer token': {
      const credentials = { kind: 'password', username: 'ci', password: 'right' } as const;
      const asked = [{ repository: 'local/app', verbs }];
      return `Bearer ${(await fixture.access.bearer?.issue({ credentials, asked }))?.token}`;
    }
  }
}

async function createApp(setup: AccessSetup = {}, publicUrl?: string) {
  const fixture = await openAccess(setup);
  return { ...fixture, app: routesOf(fixture.access, publicUrl) };
}

function routesOf(access: Access, publicUrl?: string): Hono {
  const app = new Hono();
  app.onError(createErrorHandler(pino({ level: 'silent' })));
  const addressOf = (c: { req: { header(name: string): string | undefined } }) => c.req.header('x-test-address');
  app.use(createAuthentication({ access, publicUrl, addressOf }));
  app.get('/v2/', c => {
    requireCaller(c);
    return c.json({});
  });
  for (const [method, path, verb] of ROUTES.filter(([each]) => each !== 'HEAD')) {
    app.on(method, path, c => {
      requireRight(c, verb, c.req.param('name') ?? '');
      return c.text('done');
    });
  }
  return app;
}
