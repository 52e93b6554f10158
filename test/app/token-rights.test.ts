// A token has the current rights of the caller who requested it, and no more.
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { createAccessTokens } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { makeTar, startApp, type TestApp } from '../support/app.ts';
import { base64 } from './build-app.ts';
import { editRecords } from './records.ts';

const HOUR = 3_600_000;
const containerConfig = { env: ['A=1'] };
const htpasswd = join(tmpdir(), `veneer-token-rights-${process.pid}`);
const answerSchema = z.object({ requestId: z.string(), targetImage: z.string(), buildId: z.string().optional() });

let app: TestApp;
let nowMs: number;

beforeEach(async () => {
  nowMs = Date.parse('2026-01-02T03:04:05Z');
  await setUsers('alice', 'bob');
  app = await startApp({ now: () => new Date(nowMs), config: granting({ alice: ['lab/library/app'] }) });
  app.putImage();
});

afterEach(async () => {
  await app.close();
  await rm(htpasswd, { force: true });
});

type Grants = Readonly<Record<string, readonly string[]>>;

/** What each user may pull; `*`: anyone. */
function granting(pulls: Grants, pushes: Grants = {}) {
  const grantsOf = (given: Grants, verb: string) =>
    Object.entries(given).map(([user, repositories]) => ({
      ...(user === '*' ? { anyone: true } : { users: [user] }),
      repositories,
      allow: [verb],
    }));
  return { access: { htpasswd, grants: [...grantsOf(pulls, 'pull'), ...grantsOf(pushes, 'push')] } };
}

function setUsers(...names: readonly string[]): Promise<void> {
  return writeFile(htpasswd, htpasswdOf(Object.fromEntries(names.map(name => [name, 'password']))));
}

async function submit(authorization: string | undefined, body: object = {}) {
  const headers = { 'Content-Type': 'application/json', ...(authorization && { Authorization: authorization }) };
  const wanted = {
    ...('containerFile' in body ? {} : { containerImage: 'lab/library/app:1', containerConfig }),
    ...body,
  };
  const response = await app.request('/v1alpha2/container', { method: 'POST', headers, body: wanted });
  expect(response.status).toBe(200);
  const { requestId, targetImage, buildId = '' } = answerSchema.parse(await response.json());
  const [, name = '', tag = ''] = /^[^/]+\/(.+):([^:]+)$/.exec(targetImage) ?? [];
  return { id: requestId, name, tag, buildId };
}

type Token = Awaited<ReturnType<typeof submit>>;

/** Of nobody in particular: the token is the credential. */
async function pull({ name, tag }: Token) {
  const response = await app.request(`/v2/${name}/manifests/${tag}`);
  return [response.status, await response.text()] as const;
}

async function expectEnded(token: Token, repository = 'lab/library/app'): Promise<void> {
  expect(await pull(token)).toEqual([403, expect.stringContaining(`may no longer pull ${repository}`)]);
  for (const path of ['tags/list', `blobs/sha256:${'0'.repeat(64)}`, `referrers/sha256:${'0'.repeat(64)}`]) {
    expect([path, (await app.request(`/v2/${token.name}/${path}`)).status]).toEqual([path, 403]);
  }
}

test('ends with the grant of its user, and works again with it', async () => {
  const token = await submit(basic('alice', 'password'));
  expect((await pull(token))[0]).toBe(200);
  await app.configure(granting({ alice: ['lab/library/other'], bob: ['**'] }));
  await expectEnded(token);
  await app.configure(granting({ '*': ['lab/**'] }));
  expect((await pull(token))[0]).toBe(200);
});

test('ends with its user, at once', async () => {
  const token = await submit(basic('alice', 'password'));
  await setUsers('bob');
  await expectEnded(token);
  await setUsers('alice');
  expect((await pull(token))[0]).toBe(200);
  await writeFile(htpasswd, 'no users at all');
  expect((await pull(token))[0]).toBe(503);
});

test('of a user who used a bearer token ends with the user, and not with the bearer token', async () => {
  const scope = 'repository:lab/library/app:pull';
  const headers = { Authorization: basic('alice', 'password') };
  const response = await app.request(`/token?${new URLSearchParams({ service: 'veneer', scope })}`, { headers });
  const token = await submit(`Bearer ${Object(await response.json()).token}`);
  nowMs += 2 * HOUR;
  expect((await pull(token))[0]).toBe(200);
  await setUsers('bob');
  await expectEnded(token);
});

test.each([
  ['revoked', (_: unknown, revoke: () => Promise<unknown>) => revoke()],
  ['over', (wait: () => void) => wait()],
])('ends when the access token that it was asked for with is %s', async (_, end) => {
  const records = createSqliteStore({ path: join(app.directory, 'data/records.db'), now: () => new Date(nowMs) });
  const accessTokens = createAccessTokens({ records, now: () => new Date(nowMs) });
  const permissions = [{ repositories: ['lab/library/app'], allow: ['pull' as const] }];
  const { secret, token: issued } = await accessTokens.issue({ name: 'ci', permissions, ttlMs: HOUR });
  const token = await submit(basic('ci', secret));
  expect((await pull(token))[0]).toBe(200);
  await end(
    () => {
      nowMs += HOUR;
    },
    () => accessTokens.revoke(issued.id),
  );
  await expectEnded(token);
  await records.close();
});

test('of nobody known ends when that is not for anyone any more', async () => {
  await app.configure(granting({ '*': ['lab/**'] }));
  const token = await submit(undefined);
  expect((await pull(token))[0]).toBe(200);
  await app.configure(granting({ alice: ['lab/**'] }));
  await expectEnded(token);
});

test('ends with the right to where a layer of its own is', async () => {
  const tar = await makeTar('a', 'b');
  const [digest] = app.registry.put('library/layers', [{ mediaType: '', raw: tar }]);
  const layers = [{ location: `oci://lab/library/layers@${digest}` }];
  await app.configure(granting({ alice: ['lab/**'] }));
  const token = await submit(basic('alice', 'password'), { containerConfig: { layers } });
  expect((await pull(token))[0]).toBe(200);
  await app.configure(granting({ alice: ['lab/library/app'] }));
  await expectEnded(token, 'lab/library/layers');
});

test('of a build is for who may push there, and ends with that', async () => {
  const containerFile = base64('FROM scratch\nLABEL a=b\n');
  const builds = { backends: ['embedded'] };
  await app.configure({ ...granting({}, { alice: ['local/builds'] }), builds });
  const token = await submit(basic('alice', 'password'), { containerFile });
  expect((await pull(token))[0]).toBe(200);
  await app.configure({ ...granting({}, { bob: ['local/builds'] }), builds });
  await expectEnded(token, 'local/builds');
});

test('of a build is for who may only build there, too', async () => {
  const containerFile = base64('FROM scratch\nLABEL a=b\n');
  const grants = [{ users: ['alice'], repositories: ['local/builds'], allow: ['build'] }];
  await app.configure({ access: { htpasswd, grants }, builds: { backends: ['embedded'] } });
  expect((await pull(await submit(basic('alice', 'password'), { containerFile })))[0]).toBe(200);
});

test('of an older version, short and of nobody known, works until it ends', async () => {
  const token = await submit(basic('alice', 'password'));
  const old = { ...token, id: '0123456789ab', name: token.name.replace(token.id, '0123456789ab') };
  let record: unknown;
  editRecords(app, 'token', raw => {
    const { caller: _, ...rest } = JSON.parse(raw.toString());
    record = { ...rest, id: old.id };
    return raw;
  });
  const records = createSqliteStore({ path: join(app.directory, 'data/records.db'), now: () => new Date(nowMs) });
  await records.put('token', old.id, new TextEncoder().encode(JSON.stringify(record)));
  await app.configure(granting({ bob: ['**'] }));
  expect((await pull(old))[0]).toBe(200);
  nowMs += 36 * HOUR;
  expect((await pull(old))[0]).toBe(404);
  await records.close();
});

test('says nothing of its caller', async () => {
  const { id } = await submit(basic('alice', 'password'));
  for (const path of [`/v1alpha2/container/${id}`, `/v1alpha2/container/${id}/status`, `/container-token/${id}`]) {
    const response = await app.request(path);
    expect([response.status, await response.text()]).toEqual([200, expect.not.stringContaining('alice')]);
  }
});

test('changes nothing where access is not configured', async () => {
  await app.configure({});
  const token = await submit(undefined);
  expect((await pull(token))[0]).toBe(200);
  expect(token.name).toMatch(/^wt\/[0-9a-f]{24}\/library\/app$/);
});
