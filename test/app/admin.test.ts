// The right to administer through the whole app: no pattern of repositories gives it, however wide, and it gives none to repositories.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createAccessTokens, type NewAccessToken } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { listRoutes } from '../access/open-routes.ts';
import { startServer, type TestServer } from '../support/server.ts';

const EVERY = ['pull', 'push', 'delete', 'build'] as const;
const PATTERNS = ['**', '*/*', '*/**', '**/*', '*', '_*/*', '**/_', 'local/**', 'local/_/_', 'docker.io/**'];

let directory: string;
let server: TestServer;
/** Of all repositories, and of Veneer itself. */
const secrets = { wide: '', admin: '' };

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-admin-'));
  const htpasswd = join(directory, 'htpasswd');
  await writeFile(htpasswd, htpasswdOf({ wide: 'password', admin: 'password' }));
  const grants = [
    { users: ['wide'], repositories: PATTERNS, allow: EVERY },
    { users: ['admin'], allow: ['admin'] },
  ];
  server = await startServer({ access: { htpasswd, grants } });
  secrets.wide = await issue([{ repositories: PATTERNS, allow: EVERY }]);
  secrets.admin = await issue([{ repositories: [], allow: ['admin'] }]);
});

afterAll(async () => {
  await server.close();
  await rm(directory, { recursive: true });
});

/** Beside the running server, as the command does. */
async function issue(permissions: NewAccessToken['permissions']): Promise<string> {
  const records = createSqliteStore({ path: join(server.directory, 'data', 'records.db'), now: () => new Date() });
  const tokens = createAccessTokens({ records, now: () => new Date() });
  const { secret } = await tokens.issue({ name: 'a token', permissions, ttlMs: 3_600_000 });
  await records.close();
  return secret;
}

async function bearerOf(user: string): Promise<string> {
  const scope = ['admin', 'veneer/admin', 'local/app'].map(name => `repository:${name}:*`).join(' ');
  const path = `/token?${new URLSearchParams({ service: 'veneer', scope })}`;
  const { body } = await server.send('GET', path, { headers: { Authorization: basic(user, 'password') } });
  return `Bearer ${JSON.parse(body.toString()).token}`;
}

const CALLERS: readonly (readonly [string, () => Promise<string | undefined> | string | undefined, number])[] = [
  ['nobody', () => undefined, 401],
  ['a user who may do all to every repository', () => basic('wide', 'password'), 403],
  ['a token for that', () => basic('token', secrets.wide), 403],
  ['a bearer token for that', () => bearerOf('wide'), 403],
  ['a user who may administer', () => basic('admin', 'password'), 200],
  ['a token for that ', () => basic('token', secrets.admin), 200],
];

const QUERIES: Readonly<Record<string, string>> = {
  '/v1/cache/prune': '?toBytes=1000000&dryRun=true',
  '/v1/hosted/collect': '?dryRun=true',
};

/** Every route of /v1 but the one that everybody has a part of. */
function routes() {
  const all = listRoutes(server.app).filter(({ path, method }) => path.startsWith('/v1/') && method !== 'HEAD');
  // Credentials of registries and tokens of images belong to each caller.
  return all.filter(({ path, name }) => !/explain|^\/v1\/(?:registries|tokens)/.test(path) && !name.includes('*'));
}

describe.each(CALLERS)('%s', (_, authorize, status) => {
  test('is answered on every route of an administrator, or on none', async () => {
    const authorization = await authorize();
    const headers = { ...(authorization && { Authorization: authorization }) };
    expect(routes().map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'GET /v1/rules',
        'GET /v1/cache/stat',
        'POST /v1/cache/prune',
        'POST /v1/hosted/collect',
      ]),
    );
    for (const { name, method, path } of routes()) {
      const answer = await server.send(method, `${path}${QUERIES[path] ?? ''}`, { headers });
      // Middleware stands before methods that no route has.
      if (answer.body.includes('there is no such route')) continue;
      expect([name, answer.status]).toEqual([name, status]);
      if (status === 403) expect(answer.body.toString()).toContain('allow: [admin] }, or veneer token create --admin');
    }
  });
});

test('what others get of an image is for administrators, of images that they may pull', async () => {
  const ask = async (authorization: string, image: string) => {
    const path = `/v1/rules/explain?image=${image}&caller=somebody`;
    const { status, body } = await server.send('GET', path, { headers: { Authorization: authorization } });
    return [status, body.toString()];
  };
  expect(await ask(basic('wide', 'password'), 'local/app:1')).toEqual([403, expect.stringContaining('administer')]);
  expect(await ask(basic('admin', 'password'), 'local/app:1')).toEqual([
    403,
    expect.stringContaining('pull local/app'),
  ]);
});

test('a right to administer opens no repository', async () => {
  for (const [method, path] of [
    ['GET', '/v2/local/app/tags/list'],
    ['POST', '/v2/local/app/blobs/uploads/'],
    ['DELETE', '/v2/local/app/manifests/1'],
  ] as const) {
    const headers = { Authorization: basic('admin', 'password') };
    expect([path, (await server.send(method, path, { headers })).status]).toEqual([path, 403]);
  }
});

test('the log says at the start that no grant allows it', async () => {
  const other = await startServer({ access: { grants: [{ anyone: true, repositories: ['**'], allow: EVERY }] } });
  onTestFinished(() => other.close());
  expect(other.log.join('')).toContain('no grant allows admin');
  expect(server.log.join('')).not.toContain('no grant allows admin');
});

test('a network that is open to all hears how to let somebody build', async () => {
  const other = await startServer({ listen: '0.0.0.0:8080', publicUrl: 'https://veneer.example' });
  onTestFinished(() => other.close());
  const body = JSON.stringify({ containerFile: Buffer.from('FROM scratch\nLABEL a=b').toString('base64') });
  const headers = { 'Content-Type': 'application/json' };
  const answer = await other.send('POST', '/v1alpha2/container', { headers, body });
  expect([answer.status, JSON.parse(answer.body.toString()).message]).toEqual([
    403,
    'nobody may build here: set "access" in veneer.yaml to change who may; a grant { users: [<name>], repositories: ["local/builds"], ' +
      'allow: [pull, build] } in it opens no pushes',
  ]);
  expect((await other.send('POST', '/v1/cache/verify')).status).toBe(403);
});
