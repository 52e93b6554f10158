// Images that are kept under a name of their own: builds and copies that are frozen, and mirrors.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { dataUrl, HOST, makeLayer, PLATFORMS } from '../support/app.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const containerConfig = { env: ['A=b'] };

let app: BuildApp;

beforeEach(async () => {
  app = await startBuildApp();
});

afterEach(() => app.close());

test('a frozen build has its changes in it, and a name without a token', async () => {
  const answer = await app.build({ freeze: true, containerConfig });
  expect(answer).toMatchObject({
    freeze: true,
    mirror: false,
    targetImage: expect.stringMatching(`^${HOST}/local/builds:[0-9a-f]{16}$`),
  });
  expect([answer.containerToken, answer.expiration]).toEqual([undefined, undefined]);
  const { digest } = await app.ended(answer.buildId);
  const images = await app.pull(answer.targetImage);
  expect(images.get('linux/amd64')?.config?.Env).toEqual(expect.arrayContaining(['BUILT=yes', 'A=b']));
  expect(await app.build({ freeze: true, containerConfig })).toMatchObject({ cached: true, targetDigest: digest });
});

test('a frozen image has all its platforms with the changes, or those that are asked for', async () => {
  const layers = [{ location: dataUrl(await makeLayer('opt/hello', 'hi')) }];
  const body = { containerImage: app.base, freeze: true, containerConfig: { ...containerConfig, layers } };
  const all = await app.build(body);
  const some = await app.build({ ...body, containerPlatform: 'arm64,amd64' });
  await Promise.all([all, some].map(({ buildId }) => app.ended(buildId)));
  expect([...(await app.pull(all.targetImage)).keys()]).toEqual(PLATFORMS);
  const images = await app.pull(some.targetImage);
  expect([...images.keys()].sort()).toEqual(['linux/amd64', 'linux/arm64']);
  for (const { config, rootfs } of images.values()) {
    expect([config?.Env?.at(-1), rootfs.diff_ids?.length]).toEqual(['A=b', 3]);
  }
});

test.each<[string, object, string]>([
  ['lacks a platform', { containerPlatform: 's390x' }, 'no image for linux/s390x'],
  ['is not there', { containerImage: '127.0.0.1:1/none' }, '127.0.0.1:1'],
  ['gets a layer of another type', { mediaType: true }, 'containerConfig.layers[0].mediaType'],
])('an image that %s is refused before a copy begins', async (_, body, message) => {
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+zstd';
  const layers = 'mediaType' in body ? [{ location: dataUrl(await makeLayer('a', 'b')), mediaType }] : [];
  const all = { containerImage: app.base, freeze: true, containerConfig: { ...containerConfig, layers }, ...body };
  expect(await app.refused(all)).toEqual([400, expect.stringContaining(message)]);
  expect(Object(await (await app.request('/v1alpha1/builds')).json()).builds).toEqual([]);
});

test('an image that is frozen as it is keeps its digest, and is said to be frozen', async () => {
  const { root } = app.putImage();
  const answer = await app.build({ containerImage: app.base, freeze: true });
  expect(answer).toMatchObject({ freeze: true, mirror: false, buildId: expect.stringMatching(/^mr-/) });
  await app.ended(answer.buildId);
  expect((await app.head('local/builds', answer.targetImage.split(':').at(-1) ?? '')).digest).toBe(root.digest);
});

test('a mirror keeps name, tag and digest below the repository, and its record is among the mirrors', async () => {
  const { root } = app.putImage();
  const answer = await app.build({ containerImage: app.base, mirror: true, buildRepository: 'local/mirrors' });
  expect(answer).toMatchObject({
    freeze: false,
    mirror: true,
    buildId: expect.stringMatching(/^mr-[0-9a-f]{16}_1$/),
    targetImage: `${HOST}/local/mirrors/library/app:1`,
  });
  expect(await app.ended(answer.buildId)).toMatchObject({
    mirrorId: answer.buildId,
    status: 'COMPLETED',
    exitCode: 0,
    logs: expect.stringContaining(`succeeded: local/mirrors/library/app:1@${root.digest}`),
    digest: root.digest,
    sourceImage: `${app.registry.host}/library/app:1`,
    sourceDigest: root.digest,
  });
  expect([...(await app.pull(answer.targetImage)).keys()]).toEqual(PLATFORMS);
  expect(await app.status(answer)).toMatchObject({ status: 'DONE', succeeded: true, mirrorId: answer.buildId });
  expect((await app.request(`/v1alpha1/builds/${answer.buildId}`)).status).toBe(404);
  expect(await app.build({ containerImage: app.base, mirror: true, buildRepository: 'local/mirrors' })).toMatchObject({
    cached: true,
    succeeded: true,
    targetDigest: root.digest,
  });
});

test('a mirror into the registry of its source is refused', async () => {
  app.putImage();
  const body = { containerImage: app.base, mirror: true, buildRepository: `${app.registry.host}/mirrors` };
  const message = `buildRepository: is in ${app.registry.host}, like the image: a mirror must go to another registry`;
  expect(await app.refused(body)).toEqual([400, message]);
});

test.each(['linux/amd64', 'arm64', 'linux/s390x'])(
  'a mirror has all platforms, though it is asked for %s alone',
  async containerPlatform => {
    const { root } = app.putImage();
    const body = { containerImage: app.base, mirror: true, buildRepository: 'local/mirrors', containerPlatform };
    const answer = await app.build(body);
    expect(await app.ended(answer.buildId)).toMatchObject({
      status: 'COMPLETED',
      succeeded: true,
      digest: root.digest,
    });
    expect([...(await app.pull(answer.targetImage)).keys()]).toEqual(PLATFORMS);
  },
);

test.each([
  ['frozen with changes', { freeze: true, containerConfig }],
  ['frozen as it is', { freeze: true }],
  ['mirrored', { mirror: true, buildRepository: 'local/mirrors' }],
])('an image that is %s is under no token: its request id is unknown there, and names the image', async (_, body) => {
  const answer = await app.build({ containerImage: app.base, ...body });
  await app.ended(answer.buildId);
  const [, name, tag] = /^[^/]+\/(.+):([^:]+)$/.exec(answer.targetImage) ?? [];
  for (const path of [`${name}/manifests/${tag}`, 'library/app/manifests/1', `${name}/tags/list`]) {
    const response = await app.request(`/v2/wt/${answer.requestId}/${path}`);
    const errors = [{ code: 'NAME_UNKNOWN', message: expect.stringContaining(`pull ${name}:${tag}`) }];
    expect([path, response.status, await response.json()]).toEqual([path, 404, { errors }]);
  }
});

test('the first version of the API gives a token with everything', async () => {
  const body = { containerFile: base64(`FROM ${app.base}`), freeze: true };
  const response = await app.request('/container-token', { method: 'POST', body });
  const { containerToken, expiration, targetImage } = Object(await response.json());
  expect([containerToken, expiration]).toEqual([expect.stringMatching(/^[0-9a-f]{24}$/), expect.any(String)]);
  expect(targetImage).toContain(`${HOST}/local/builds:`);
});

test.each<[string, object, string]>([
  ['freeze', { freeze: true, buildTag: 'v1' }, 'local/builds:v1'],
  ['a repository of its own', { buildRepository: 'local/team/app', buildTag: 'v1' }, 'local/team/app:v1'],
  ['our own host in front', { buildRepository: `${HOST}/local/team/app`, buildTag: 'v1' }, 'local/team/app:v1'],
])('a tag can be chosen with %s', async (_, body, image) => {
  const answer = await app.build(body);
  await app.ended(answer.buildId);
  expect((await app.pull(`${HOST}/${image}`)).size).toBe(1);
});

test.each<[string, object, string]>([
  ['a tag in the repository of all', { buildTag: 'v1' }, 'buildTag: needs freeze, or a buildRepository'],
  ['a repository with a tag', { buildRepository: 'local/app:1' }, 'buildRepository: a repository must have no tag'],
  [
    'a repository with a digest',
    { buildRepository: `local/app@sha256:${'0'.repeat(64)}` },
    'buildRepository: a repository',
  ],
  ['a repository out of grammar', { buildRepository: 'local/App' }, 'buildRepository: invalid repository name'],
  ['a cache out of grammar', { cacheRepository: 'local/App' }, 'cacheRepository: invalid repository name'],
])('%s is refused', async (_, body, message) => {
  const all = { containerFile: base64('FROM scratch\nLABEL a=b'), ...body };
  expect(await app.refused(all)).toEqual([400, expect.stringContaining(message)]);
});

test('without a hosted prefix a build needs a repository', async () => {
  await app.close();
  app = await startBuildApp({ config: { hosted: { prefixes: [] } } });
  const refused = await app.refused({ containerFile: base64('FROM scratch\nLABEL a=b') });
  expect(refused).toEqual([400, expect.stringMatching(/^buildRepository: must be given, .*local\/builds/)]);
});
