// Rights to build: what a caller may not push, pull or read it cannot get by a build either, regardless of who built it before.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeContent } from '../conformance/documents.ts';
import { generateImage } from '../support/images.ts';
import type { Answer } from '../support/server.ts';
import { base64 } from './build-app.ts';
import { ADMIN, callers, type GuardedServer, RIGHTS, startGuarded } from './callers.ts';

const SCOPE = 'repository:local/app:pull,push,delete';
const ofNothing = { containerFile: base64('FROM scratch\nLABEL a=b'), buildRepository: 'local/app' };
const blob = makeContent('secret', '');

let server: GuardedServer;
/** Built in local/app. */
let id: string;

beforeAll(async () => {
  server = await startGuarded({ builds: { backends: ['embedded'], requests: { networks: ['default'] } } });
  await putSecret();
  id = JSON.parse((await post(ofNothing, ADMIN)).body.toString()).buildId;
  await server.send('GET', `/v1alpha1/builds/${id}/logs`, { headers: { Authorization: ADMIN } });
});

afterAll(() => server.close());

/** local/secret:1, which only the admin may pull. */
async function putSecret(): Promise<void> {
  const { root, content } = generateImage({
    seed: 1,
    platforms: ['linux/amd64'],
    layers: 1,
    family: 'oci',
    index: false,
  });
  for (const [digest, { raw: body, mediaType }] of content) {
    const headers = { Authorization: ADMIN, 'Content-Type': mediaType };
    if (digest === root.digest) await server.send('PUT', '/v2/local/secret/manifests/1', { headers, body });
    else await server.send('POST', `/v2/local/secret/blobs/uploads/?digest=${digest}`, { headers, body });
  }
  const headers = { Authorization: ADMIN };
  await server.send('POST', `/v2/local/secret/blobs/uploads/?digest=${blob.digest}`, { headers, body: blob.raw });
}

function post(body: object, authorization?: string): Promise<Answer> {
  return ask('POST', '/v1alpha2/container', { authorization, body });
}

interface Asked {
  readonly authorization?: string | undefined;
  readonly body?: object;
}

function ask(method: string, path: string, { authorization, body }: Asked): Promise<Answer> {
  const json = body && { 'Content-Type': 'application/json' };
  const headers = { Host: `127.0.0.1:${server.port}`, ...json, ...(authorization && { Authorization: authorization }) };
  return server.send(method, path, { headers, ...(body && { body: JSON.stringify(body) }) });
}

const ROUTES = [
  [['build'], 'POST', '/v1alpha2/container'],
  [['build'], 'POST', '/container-token'],
  [['pull'], 'GET', '/v1alpha1/builds/ID'],
  [['pull'], 'GET', '/v1alpha1/builds/ID/status'],
  [['pull'], 'GET', '/v1alpha1/builds/ID/logs'],
  [['pull'], 'HEAD', '/v1alpha1/builds/ID/logs'],
  [['pull'], 'GET', '/view/builds/ID'],
  [['pull', 'build'], 'POST', '/v1alpha1/builds/ID/cancel'],
  [['pull', 'build'], 'POST', '/v1alpha1/builds/ID/retry'],
] as const;

describe.each(callers)('$user with $by', caller => {
  const rights = RIGHTS[caller.user] ?? [];
  // Who may push may have it pushed.
  const mayBuild = rights.includes('build') || rights.includes('push');

  test.each(ROUTES)('needs %j for %s %s', async (verbs, method, path) => {
    const authorization = await server.authorizationOf(caller, SCOPE);
    const isSubmit = !path.includes('ID');
    const answer = await ask(method, path.replace('ID', id), { authorization, ...(isSubmit && { body: ofNothing }) });
    const mayDo = verbs.every(verb => (verb === 'build' ? mayBuild : rights.includes(verb)));
    const refusal = caller.by === 'no credentials' ? 401 : 403;
    // Anyone who may build has asked for the same build before, so that it belongs to this caller as well.
    expect(answer.status, answer.body.toString()).toBe(mayDo ? (mayBuild ? 200 : 404) : refusal);
    if (answer.status === 401) expect(answer.headers['www-authenticate']).toContain('scope="repository:local/app:');
  });

  test('sees in the list what it asked for and may pull', async () => {
    const { body } = await ask('GET', '/v1alpha1/builds', {
      authorization: await server.authorizationOf(caller, SCOPE),
    });
    const ids = JSON.parse(body.toString()).builds.map((build: { buildId: string }) => build.buildId);
    expect(ids).toEqual(rights.includes('pull') && mayBuild ? [id] : []);
  });
});

describe('a client of Wave shows an access token of ours', () => {
  const FOREIGN = 'eyJ0aWQiOiAxMjM0fS5hYmNkZWY=';
  const ours = () => server.secrets.get('builder') ?? '';

  test.each<[string, () => { readonly body?: string; readonly header?: string }, number]>([
    ['in the body', () => ({ body: ours() }), 200],
    ['in its header', () => ({ header: ours() }), 200],
    ['in both', () => ({ body: ours(), header: ours() }), 200],
    ['in the body, and one of another service in its header', () => ({ body: ours(), header: FOREIGN }), 200],
    ['in its header, and one of another service in the body', () => ({ body: FOREIGN, header: ours() }), 200],
    ['nowhere', () => ({}), 401],
    ['nowhere, but one of another service', () => ({ body: FOREIGN, header: FOREIGN }), 401],
    ['that has expired, in the body', () => ({ body: `vnr_${'0'.repeat(40)}` }), 401],
    ['that has expired, in its header', () => ({ header: `vnr_${'0'.repeat(40)}`, body: ours() }), 401],
    ['that may only pull', () => ({ body: server.secrets.get('reader') ?? '' }), 403],
  ])('%s', async (_, show, status) => {
    const { body: towerAccessToken, header } = show();
    const authorization = header && `Bearer ${header}`;
    for (const path of ['/v1alpha2/container', '/container-token']) {
      const answer = await ask('POST', path, { authorization, body: { ...ofNothing, towerAccessToken } });
      expect([path, answer.status, answer.body.toString()]).toEqual([
        path,
        status,
        expect.not.stringContaining('vnr_'),
      ]);
      if (status === 401) expect(answer.headers['www-authenticate']).toContain('Bearer realm=');
    }
  });

  test('to see the record of its build, and never to push', async () => {
    const authorization = `Bearer ${ours()}`;
    expect((await ask('GET', `/v1alpha1/builds/${id}`, { authorization })).status).toBe(200);
    const push = await server.send('POST', '/v2/local/app/blobs/uploads/', {
      headers: { Authorization: authorization },
    });
    expect(push.status).toBe(403);
  });

  test('to augment and to inspect what it may pull', async () => {
    for (const path of ['/v1alpha2/container', '/v1alpha1/inspect']) {
      const body = { containerImage: 'local/secret:1', towerAccessToken: ours() };
      expect([path, (await ask('POST', path, { body })).status]).toEqual([path, 403]);
      const { towerAccessToken: _, ...anonymous } = body;
      expect([path, (await ask('POST', path, { body: anonymous })).status]).toEqual([path, 401]);
    }
  });
});

const secretBase = (line: string) => ({ containerFile: base64(line), buildRepository: 'local/app' });
test.each<[string, () => object]>([
  ['a base', () => secretBase('FROM local/secret:1\nLABEL a=b')],
  ['a base by our own host', () => secretBase(`FROM 127.0.0.1:${server.port}/local/secret:1\nLABEL a=b`)],
  ['a base in an argument', () => secretBase('ARG NAME=secret\nFROM local/$NAME:1\nLABEL a=b')],
  ['an image that is copied from', () => secretBase('FROM scratch\nCOPY --from=local/secret:1 / /')],
  ['a stage that is not built', () => secretBase('FROM local/secret:1 AS one\nFROM scratch\nCOPY --from=one / /')],
  [
    'a build context',
    () => ({ ...ofNothing, buildContext: { location: `oci://127.0.0.1:${server.port}/local/secret@${blob.digest}` } }),
  ],
  [
    'a layer on top',
    () => ({
      ...ofNothing,
      containerConfig: {
        layers: [{ location: `docker://127.0.0.1:${server.port}/v2/local/secret/blobs/${blob.digest}` }],
      },
    }),
  ],
  ['an included image', () => ({ ...ofNothing, containerIncludes: ['local/secret:1'] })],
  ['a cache', () => ({ ...ofNothing, cacheRepository: 'local/secret' })],
  ['a repository to push to', () => ({ ...ofNothing, buildRepository: 'local/secret' })],
  ['the repository of all', () => ({ containerFile: ofNothing.containerFile })],
  ['a repository below', () => ({ ...ofNothing, buildRepository: 'local/app/below' })],
  ['the source of a mirror', () => ({ containerImage: 'local/secret:1', mirror: true, buildRepository: 'local/app' })],
  [
    'the source of a frozen image',
    () => ({ containerImage: 'local/secret:1', freeze: true, buildRepository: 'local/app' }),
  ],
])('nobody gets by a build what is not granted: %s', async (_, body) => {
  const writer = await server.authorizationOf({ user: 'writer', by: 'password' }, SCOPE);
  const answer = await post(body(), writer);
  expect([answer.status, answer.body.toString()]).toEqual([
    403,
    expect.stringMatching(/local\/(secret|builds|app\/below)/),
  ]);
  expect((await post(body(), undefined)).status).toBe(401);
});

test('nobody gets a build of bases that it may not pull, though it was built before', async () => {
  const body = secretBase('FROM local/secret:1\nLABEL a=b');
  const { body: answered } = await post(body, ADMIN);
  await ask('GET', `/v1alpha1/builds/${JSON.parse(answered.toString()).buildId}/logs`, { authorization: ADMIN });
  const reader = await server.authorizationOf({ user: 'writer', by: 'password' }, SCOPE);
  expect((await post(body, reader)).status).toBe(403);
});

test.each([
  [
    'a secret that is not for requests',
    { buildSecrets: ['npm'] },
    'buildSecrets: "npm" is not allowed here: requests may use none',
  ],
  ['an agent that is not for requests', { buildSsh: ['default'] }, 'buildSsh: "default" is not allowed here'],
  [
    'a network that is not for requests',
    { buildNetwork: 'host' },
    'buildNetwork: "host" is not allowed here: requests may use default',
  ],
  ['more time than builds have', { buildTimeout: '16m' }, 'buildTimeout: is 960 s, over the limit of 900 s'],
  ['more time than a timer has', { buildTimeout: '999999h' }, 'buildTimeout: is 3599996400 s, over the limit of 900 s'],
])('nobody gets %s', async (_, fields, message) => {
  const answer = await post({ ...ofNothing, ...fields }, ADMIN);
  expect([answer.status, answer.body.toString()]).toEqual([
    400,
    expect.stringContaining(message.replaceAll('"', '\\"')),
  ]);
});
