// Credentials of registries that callers store: each opens what is private for its own caller, and for nobody else, by any route.
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { generateImage } from '../support/images.ts';
import { createPrivacy } from '../support/private-registry.ts';
import { startServer } from '../support/server.ts';
import { base64 } from './build-app.ts';

const htpasswd = join(tmpdir(), `veneer-registry-credentials-${process.pid}`);
const ALICE = basic('alice', 'password');
const BOB = basic('bob', 'password');
const SECRET = 'canary-of-the-registry';
const KEYS = ['a'.repeat(40), 'b'.repeat(40)] as const;
const answerSchema = z.object({ requestId: z.string(), buildId: z.string().optional() });
const listSchema = z.object({ registries: z.array(z.object({ registry: z.string(), userName: z.string() })) });

let app: TestApp;

beforeEach(async () => {
  await writeFile(htpasswd, htpasswdOf({ alice: 'password', bob: 'password' }));
  app = await startApp();
  await configure([KEYS[0]]);
  put('private/app');
  const users = { reader: { password: SECRET, repositories: ['private/app'] } };
  app.registry.intercept(createPrivacy({ scheme: 'Bearer', users }).intercept);
});

afterEach(async () => {
  await app.close();
  await rm(htpasswd, { force: true });
});

function configure(credentialKeys: readonly string[], more: object = {}): Promise<void> {
  const grants = [{ users: ['alice', 'bob'], repositories: ['lab/**', 'local/**'], allow: ['pull', 'build'] }];
  return app.configure({
    upstreams: { lab: { url: app.registry.url } },
    access: { htpasswd, credentialKeys, grants },
    cache: { tagFreshness: '0s' },
    ...more,
  });
}

function put(repository: string): void {
  const image = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
  const contents = [...image.content].map(([digest, content]) => ({
    ...content,
    ...(digest === image.root.digest && { tags: ['1'] }),
  }));
  app.registry.put(repository, contents);
}

function ask(authorization: string | undefined, method: string, path: string, body?: object): Promise<Response> {
  return app.request(path, { method, ...(authorization && { headers: { authorization } }), ...(body && { body }) });
}

function store(authorization: string, password = SECRET): Promise<Response> {
  return ask(authorization, 'PUT', '/v1/registries/lab', { userName: 'reader', password });
}

const submit = (authorization: string, body: object = {}) =>
  ask(authorization, 'POST', '/v1alpha2/container', {
    containerImage: 'lab/private/app:1',
    containerConfig: { env: ['A=1'] },
    ...body,
  });

test('open a pull, a submit, an inspection and the token of their caller, and nothing of another', async () => {
  expect([401, 403]).toContain((await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1')).status);
  expect((await store(ALICE)).status).toBe(200);
  expect((await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1')).status).toBe(200);
  const inspected = await ask(ALICE, 'POST', '/v1alpha1/inspect', { containerImage: 'lab/private/app:1' });
  expect(inspected.status, await inspected.text()).toBe(200);
  const response = await submit(ALICE);
  expect(response.status, await response.clone().text()).toBe(200);
  const { requestId } = answerSchema.parse(await response.json());
  const pulled = await app.request(`/v2/wt/${requestId}/private/app/manifests/1`);
  expect(pulled.status, await pulled.text()).toBe(200);

  const digest = pulled.headers.get('docker-content-digest');
  for (const reference of ['1', digest])
    expect((await ask(BOB, 'GET', `/v2/lab/private/app/manifests/${reference}`)).status).not.toBe(200);
  expect((await submit(BOB)).status).toBe(400);
  expect((await ask(BOB, 'POST', '/v1alpha1/inspect', { containerImage: 'lab/private/app:1' })).status).toBe(400);
});

test('open the base of a build of their caller, and its mirror, and of nobody else', async () => {
  await store(ALICE);
  const build = {
    containerImage: undefined,
    containerConfig: undefined,
    containerFile: base64('FROM lab/private/app:1\nLABEL a=b'),
  };
  const mirror = { containerConfig: undefined, mirror: true, buildRepository: 'local/mirrors' };
  for (const wanted of [{ ...build, buildRepository: 'local/builds' }, mirror]) {
    expect((await submit(BOB, wanted)).status).toBe(400);
    const response = await submit(ALICE, wanted);
    expect(response.status, await response.clone().text()).toBe(200);
    const { buildId = '' } = answerSchema.parse(await response.json());
    const path = `/v1alpha1/${buildId.startsWith('mr-') ? 'mirrors' : 'builds'}/${buildId}`;
    const outcome = async () => (await ask(ALICE, 'GET', path)).text();
    await expect.poll(outcome).toMatch(/"succeeded":true/);
  }
});

test('do not open the base of a recipe, which makes what others may pull, too', async () => {
  const containerFile = join(app.directory, 'tool.Containerfile');
  await writeFile(containerFile, 'FROM lab/private/app:1\nLABEL a=b\n');
  await configure([KEYS[0]], {
    builds: { backends: ['embedded'], recipes: [{ match: 'local/tools/{name}:{version}', containerFile }] },
  });
  await store(ALICE);
  const pulled = await ask(ALICE, 'GET', '/v2/local/tools/app/manifests/1');
  expect([pulled.status, await pulled.text()]).not.toEqual([200, expect.anything()]);
  expect((await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1')).status).toBe(200);
});

test('are listed without what is secret, end when they are deleted, and are of their caller alone', async () => {
  await store(ALICE);
  const listed = await (await ask(ALICE, 'GET', '/v1/registries')).text();
  expect(listSchema.parse(JSON.parse(listed)).registries).toEqual([{ registry: 'lab', userName: 'reader' }]);
  expect(listed).not.toContain(SECRET);
  expect(await (await ask(BOB, 'GET', '/v1/registries')).json()).toEqual({ registries: [] });
  expect((await ask(BOB, 'DELETE', '/v1/registries/lab')).status).toBe(404);
  expect((await ask(ALICE, 'DELETE', '/v1/registries/lab')).status).toBe(204);
  expect([401, 403]).toContain((await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1')).status);
});

test('need a caller with a name, a registry that there is, and a body without faults', async () => {
  expect((await ask(undefined, 'GET', '/v1/registries')).status).toBe(401);
  const faults = [{}, { userName: 'a' }, { userName: 'a:b', password: 'c' }, { userName: 'a', password: 'b\nc' }, []];
  for (const body of faults) expect((await ask(ALICE, 'PUT', '/v1/registries/lab', body)).status).toBe(400);
  const long = await store(ALICE, 'x'.repeat(8193));
  expect([long.status, await long.text()]).toEqual([400, expect.not.stringContaining('xxx')]);
  await app.configure({});
  expect((await ask(undefined, 'GET', '/v1/registries')).status).toBe(403);
});

test('are sealed with the first key, again after a rotation, and lost without theirs', async () => {
  await store(ALICE);
  await configure([KEYS[1], KEYS[0]]);
  expect((await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1')).status).toBe(200);
  await configure([KEYS[1]]);
  expect((await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1')).status).toBe(200);
  await configure([KEYS[0]]);
  expect([401, 403]).toContain((await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1')).status);
  expect(app.log.join('')).toContain('1 credentials of registries were sealed with a key that is not in');
});

test('open no manifest that is ready to send to another, over the socket', async () => {
  const server = await startServer({
    upstreams: { lab: { url: app.registry.url } },
    access: {
      htpasswd,
      grants: [{ users: ['alice', 'bob'], repositories: ['lab/**'], allow: ['pull'] }],
    },
  });
  const send = (authorization: string, method: string, path: string, body?: string) =>
    server.send(method, path, {
      headers: { Authorization: authorization, 'Content-Type': 'application/json' },
      ...(body !== undefined && { body }),
    });
  try {
    await send(ALICE, 'PUT', '/v1/registries/lab', JSON.stringify({ userName: 'reader', password: SECRET }));
    const { headers } = await send(ALICE, 'HEAD', '/v2/lab/private/app/manifests/1');
    const path = `/v2/lab/private/app/manifests/${headers['docker-content-digest']}`;
    for (let at = 0; at < 3; at += 1) {
      expect((await send(ALICE, 'GET', path)).status).toBe(200);
      expect((await send(BOB, 'GET', path)).status).not.toBe(200);
    }
  } finally {
    await server.close();
  }
});

test('are nowhere in clear: in no file of the data directory, and in no line of the log', async () => {
  await store(ALICE);
  await ask(ALICE, 'GET', '/v2/lab/private/app/manifests/1');
  const files = await readdir(join(app.directory, 'data'), { recursive: true, withFileTypes: true });
  for (const file of files.filter(each => each.isFile())) {
    const bytes = await readFile(join(file.parentPath, file.name));
    expect([file.name, bytes.includes(SECRET)]).toEqual([file.name, false]);
  }
  expect(app.log.join('')).not.toContain(SECRET);
});
