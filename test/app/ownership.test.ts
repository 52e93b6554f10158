// What one caller made another does not see: each route that shows something of it, asked by its owner, by another, by an admin and by
// nobody.
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const htpasswd = join(tmpdir(), `veneer-ownership-${process.pid}`);
const answerSchema = z.object({ requestId: z.string(), buildId: z.string() });
const listSchema = z.object({ builds: z.array(z.object({ buildId: z.string() })) });

const WHO = {
  owner: basic('owner', 'password'),
  other: basic('other', 'password'),
  admin: basic('admin', 'password'),
  anonymous: undefined,
} as const;
type Who = keyof typeof WHO;

let app: BuildApp;

beforeAll(async () => {
  await writeFile(htpasswd, htpasswdOf({ owner: 'password', other: 'password', admin: 'password' }));
  const all = ['lab/**', 'local/**'];
  app = await startBuildApp({
    config: {
      access: {
        htpasswd,
        grants: [
          { users: ['owner', 'other'], repositories: all, allow: ['pull', 'build'] },
          { anyone: true, repositories: ['lab/**', 'local/builds'], allow: ['pull', 'build'] },
          { users: ['admin'], allow: ['admin'] },
        ],
      },
    },
  });
});

afterAll(async () => {
  await app.close();
  await rm(htpasswd, { force: true });
});

function ask(who: Who, method: string, path: string, body?: object): Promise<Response> {
  const authorization = WHO[who];
  return app.request(path, { method, ...(authorization && { headers: { authorization } }), ...(body && { body }) });
}

async function build(who: Who, label: string) {
  const containerFile = base64(`FROM scratch\nLABEL made=${label}`);
  const response = await ask(who, 'POST', '/v1alpha2/container', { containerFile, buildRepository: 'local/builds' });
  expect(response.status, await response.clone().text()).toBe(200);
  return answerSchema.parse(await response.json());
}

async function submitAs(who: Who) {
  const response = await ask(who, 'POST', '/v1alpha2/container', { containerImage: 'lab/library/app:1' });
  return z.object({ requestId: z.string() }).parse(await response.json());
}

const BUILD_ROUTES = [
  ['GET', '/v1alpha1/builds/BUILD'],
  ['GET', '/v1alpha1/builds/BUILD/status'],
  ['GET', '/v1alpha1/builds/BUILD/logs'],
  ['POST', '/v1alpha1/builds/BUILD/cancel'],
  ['POST', '/v1alpha1/builds/BUILD/retry'],
] as const;
const TOKEN_ROUTES = [
  ['GET', '/v1alpha2/container/TOKEN'],
  ['GET', '/v1alpha2/container/TOKEN/status'],
  ['GET', '/container-token/TOKEN'],
] as const;

async function listed(who: Who): Promise<readonly string[]> {
  const response = await ask(who, 'GET', '/v1alpha1/builds?limit=100');
  return listSchema.parse(await response.json()).builds.map(({ buildId }) => buildId);
}

describe("an owner's", () => {
  let own: z.infer<typeof answerSchema>;

  beforeAll(async () => {
    own = await build('owner', 'owner');
    await (await ask('owner', 'GET', `/v1alpha1/builds/${own.buildId}/logs`)).text();
  });

  const statusOf = (who: Who): number => {
    if (who === 'owner') return 200;
    return who === 'admin' ? 200 : 404;
  };

  test.each(
    BUILD_ROUTES.flatMap(route =>
      (['other', 'anonymous', 'admin', 'owner'] as const).map(who => [...route, who] as const),
    ),
  )('build: %s %s by %s', async (method, path, who) => {
    const response = await ask(who, method, path.replace('BUILD', own.buildId));
    expect(response.status, await response.text()).toBe(statusOf(who));
  });

  test.each(
    TOKEN_ROUTES.flatMap(route =>
      (['other', 'anonymous', 'admin', 'owner'] as const).map(who => [...route, who] as const),
    ),
  )('token: %s %s by %s', async (method, path, who) => {
    const response = await ask(who, method, path.replace('TOKEN', own.requestId));
    // Clients poll without credentials: the id, which nobody guesses, is one.
    expect(response.status, await response.text()).toBe(who === 'other' ? 404 : 200);
  });

  test('build is in the lists of owner and admin alone', async () => {
    for (const who of ['owner', 'other', 'admin', 'anonymous'] as const)
      expect([who, (await listed(who)).includes(own.buildId)]).toEqual([who, who === 'owner' || who === 'admin']);
  });

  test.each([
    ['owner', 200],
    ['admin', 200],
    ['other', 404],
    // Who holds the token may pull by it, and may end it.
    ['anonymous', 200],
  ] as const)('token: DELETE by %s is %i, and nobody has it after a 200', async (who, status) => {
    const { requestId } = await submitAs('owner');
    const revoked = await ask(who, 'DELETE', `/container-token/${requestId}`);
    expect(revoked.status, await revoked.text()).toBe(status);
    for (const path of [`/container-token/${requestId}`, `/v2/wt/${requestId}/library/app/manifests/1`])
      expect([path, (await ask('anonymous', 'GET', path)).status]).toEqual([path, status === 200 ? 404 : 200]);
  });

  test('build is that of another, too, once he has asked for the same', async () => {
    const shared = await build('owner', 'shared');
    expect((await ask('other', 'GET', `/v1alpha1/builds/${shared.buildId}`)).status).toBe(404);
    expect((await build('other', 'shared')).buildId).toBe(shared.buildId);
    expect((await ask('other', 'GET', `/v1alpha1/builds/${shared.buildId}`)).status).toBe(200);
    expect(await listed('other')).toContain(shared.buildId);
  });
});

test('what nobody with a name made is for anyone who may pull it', async () => {
  const made = await build('anonymous', 'nobody');
  for (const who of ['owner', 'other', 'admin', 'anonymous'] as const) {
    for (const path of [`/v1alpha1/builds/${made.buildId}`, `/v1alpha2/container/${made.requestId}/status`])
      expect([who, path, (await ask(who, 'GET', path)).status]).toEqual([who, path, 200]);
    expect(await listed(who)).toContain(made.buildId);
  }
});

test('a token that nobody with a name asked for is revoked by anyone who holds it', async () => {
  for (const who of ['anonymous', 'other', 'admin'] as const) {
    const { requestId } = await submitAs('anonymous');
    const path = `/v2/wt/${requestId}/library/app/manifests/1`;
    expect([who, (await ask('anonymous', 'GET', path)).status]).toEqual([who, 200]);
    expect([who, (await ask(who, 'DELETE', `/container-token/${requestId}`)).status]).toEqual([who, 200]);
    const response = await ask('anonymous', 'GET', path);
    expect([who, response.status, await response.text()]).toEqual([who, 404, expect.stringContaining('was revoked')]);
    expect([who, (await ask(who, 'DELETE', `/container-token/${requestId}`)).status]).toEqual([who, 404]);
  }
});

test('a mirror is its own caller’s', async () => {
  const wanted = { containerImage: 'lab/library/app:1', mirror: true, buildRepository: 'local/builds' };
  const response = await ask('owner', 'POST', '/v1alpha2/container', wanted);
  const text = await response.text();
  expect(response.status, text).toBe(200);
  const { buildId } = answerSchema.parse(JSON.parse(text));
  for (const [who, status] of [
    ['owner', 200],
    ['admin', 200],
    ['other', 404],
    ['anonymous', 401],
  ] as const)
    expect([who, (await ask(who, 'GET', `/v1alpha1/mirrors/${buildId}`)).status]).toEqual([who, status]);
});
