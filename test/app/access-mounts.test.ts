// Ways around a pull: a mount, an augmentation and an inspection open nothing that the same caller could not pull.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { isLayerType, mediaTypes } from '../../src/oci/media-type.ts';
import { basic } from '../access/fixture.ts';
import { makeLayer } from '../support/app.ts';
import { type GeneratedImage, generateImage } from '../support/images.ts';
import { codeOf, type Sent } from '../support/server.ts';
import { ADMIN, type GuardedServer, startGuarded } from './callers.ts';

const secret = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
const app = generateImage({ seed: 2, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
const CONFIG = find(secret, type => type === mediaTypes.ociConfig);
const layer = await makeLayer('a.txt', 'a');
const LAYER = digestOf(layer);
const WRITER = basic('writer', 'password');

let server: GuardedServer;

beforeAll(async () => {
  server = await startGuarded();
  await push('local/secret', secret);
  await push('local/app', app);
  await send(ADMIN, 'POST', `/v2/local/secret/blobs/uploads/?digest=${LAYER}`, { body: layer });
});

afterAll(() => server.close());

describe.each([
  ['named', '&from=local/secret'],
  ['not named', ''],
  ['named in another case', '&from=LOCAL/secret'],
  ['named by a path', '&from=local/app/../secret'],
])('a mount from a repository that is %s', (_, from) => {
  test('becomes an upload for who may not pull from there', async () => {
    const answer = await send(WRITER, 'POST', `/v2/local/app/blobs/uploads/?mount=${CONFIG}${from}`);
    expect(answer.status).toBe(202);
    expect((await send(WRITER, 'HEAD', `/v2/local/app/blobs/${CONFIG}`)).status).toBe(404);
  });
});

test('a mount is granted to who may pull from there', async () => {
  const path = `/v2/local/admin/blobs/uploads/?mount=${CONFIG}&from=local/secret`;
  expect((await send(ADMIN, 'POST', path)).status).toBe(201);
});

test.each([
  ['a bearer token for both', 'repository:local/app:pull,push repository:local/secret:pull', 202],
  ['a bearer token for one', 'repository:local/app:pull,push', 202],
])('with %s, a user gets no more than its grants', async (_, scope, status) => {
  const authorization = await server.authorizationOf({ user: 'writer', by: 'bearer token' }, scope);
  const path = `/v2/local/app/blobs/uploads/?mount=${CONFIG}&from=local/secret`;
  expect((await send(authorization, 'POST', path)).status).toBe(status);
});

const wanted = { containerImage: 'local/app:1', containerPlatform: 'linux/amd64' };

const REQUESTS: readonly (readonly [string, string, object])[] = [
  ['an image', '/v1alpha2/container', { containerImage: 'local/secret:1' }],
  ['an image by digest', '/v1alpha2/container', { containerImage: `local/secret@${secret.root.digest}` }],
  ['an image, by the older name', '/container-token', { containerImage: 'local/secret:1' }],
  ['an image to include', '/v1alpha2/container', { ...wanted, containerIncludes: ['local/secret:1'] }],
  ['a layer of another image', '/v1alpha2/container', layered(`docker://local/v2/secret/blobs/${LAYER}`)],
  ['a layer by oci://', '/v1alpha2/container', layered(`oci://local/secret@${LAYER}`)],
  ['an image to inspect', '/v1alpha1/inspect', { containerImage: 'local/secret:1' }],
];

describe.each(REQUESTS)('%s', (_, path, body) => {
  test('is refused to who may not pull it', async () => {
    const refused = await post(WRITER, path, body);
    expect([refused.status, refused.body.toString()]).toEqual([403, expect.stringContaining('local/secret')]);
  });

  test('is refused to who is unknown, with a challenge', async () => {
    const { status, headers } = await post(undefined, path, body);
    expect([status, headers['www-authenticate']]).toEqual([401, expect.stringContaining('Bearer realm=')]);
  });

  test('is given to who may', async () => {
    const { status, body: answer } = await post(ADMIN, path, body);
    expect([status, answer.toString()]).toEqual([200, expect.any(String)]);
  });
});

test('the token of an augmented image pulls it for anyone, and nothing beside it', async () => {
  const { body } = await post(ADMIN, '/v1alpha2/container', {
    containerImage: 'local/secret:1',
    containerConfig: { env: ['A=1'] },
  });
  const { targetImage } = JSON.parse(body.toString());
  const name = new URL(`http://${targetImage}`).pathname.slice(1).replace(':1', '');
  expect((await send(undefined, 'GET', `/v2/${name}/manifests/1`)).status).toBe(200);
  const others = [`manifests/${app.root.digest}`, `blobs/${find(app, isLayerType)}`];
  for (const path of [`manifests/${secret.root.digest}`, ...others]) {
    expect((await send(undefined, 'GET', `/v2/${name}/${path}`)).status).toBe(404);
  }
  const refused = await send(undefined, 'GET', '/v2/local/secret/manifests/1');
  expect([refused.status, codeOf(refused)]).toEqual([401, 'UNAUTHORIZED']);
});

function layered(location: string): object {
  return { ...wanted, containerConfig: { layers: [{ location }] } };
}

/** All of an image, its root as 1. */
async function push(name: string, { root, content }: GeneratedImage): Promise<void> {
  for (const [digest, { mediaType, raw: body }] of content) {
    const headers = { 'Content-Type': mediaType };
    const reference = digest === root.digest ? '1' : digest;
    const { status } = /manifest|index/.test(mediaType)
      ? await send(ADMIN, 'PUT', `/v2/${name}/manifests/${reference}`, { headers, body })
      : await send(ADMIN, 'POST', `/v2/${name}/blobs/uploads/?digest=${digest}`, { body });
    expect(status).toBe(201);
  }
}

function find({ content }: GeneratedImage, isWanted: (mediaType: string) => boolean): string {
  return [...content].find(([, { mediaType }]) => isWanted(mediaType))?.[0] ?? '';
}

function post(authorization: string | undefined, path: string, body: object) {
  return send(authorization, 'POST', path, {
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
}

function send(authorization: string | undefined, method: string, path: string, { headers, body }: Sent = {}) {
  const all = { ...headers, ...(authorization && { Authorization: authorization }) };
  return server.send(method, path, { headers: all, ...(body && { body }) });
}
