// Builds over the API: what is asked for, what is answered at once, and what is pulled in the end.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isIndexType } from '../../src/oci/media-type.ts';
import { dataUrl, HOST, makeLayer, PLATFORMS } from '../support/app.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

let app: BuildApp;

beforeEach(async () => {
  app = await startBuildApp();
});

afterEach(() => app.close());

test('are of one platform unless others are asked for, and the answer says what to pull', async () => {
  const answer = await app.build();
  const [, hex] = /^bd-([0-9a-f]{16})_1$/.exec(answer.buildId) ?? [];
  expect(answer).toMatchObject({ cached: false, freeze: false, mirror: false, containerToken: answer.requestId });
  expect(answer.targetImage).toBe(`${HOST}/wt/${answer.requestId}/builds:${hex}`);
  const images = await app.pull(answer.targetImage);
  expect([...images.keys()]).toEqual(['linux/amd64']);
  expect(images.get('linux/amd64')?.config?.Env).toContain('BUILT=yes');
});

test.each([
  ['linux/amd64,linux/arm64', ['linux/amd64', 'linux/arm64']],
  ['linux/arm/v7,linux/amd64,linux/arm64', ['linux/arm/v7', 'linux/amd64', 'linux/arm64']],
  ['x86_64,aarch64', ['linux/amd64', 'linux/arm64']],
  ['arm64,linux/arm64/v8,x86-64', ['linux/arm64', 'linux/amd64']],
])('of %s are one index of exactly those', async (containerPlatform, platforms) => {
  const { targetImage, buildId } = await app.build({ containerPlatform });
  expect([...(await app.pull(targetImage)).keys()]).toEqual(platforms);
  const [, name = '', tag = ''] = /^[^/]+\/(.+):(.+)$/.exec(targetImage) ?? [];
  expect(isIndexType((await app.head(name, tag)).mediaType)).toBe(true);
  expect(await app.record(buildId)).toMatchObject({ platforms, platform: platforms.join(','), succeeded: true });
});

describe('with a context', () => {
  const containerFile = base64('FROM scratch\nCOPY file1.txt /f\nLABEL at=file\n');

  test.each<[string, () => Promise<unknown>]>([
    ['a map of files', async () => ({ 'file1.txt': 'content' })],
    ['a layer', async () => ({ location: dataUrl(await makeLayer('file1.txt', 'content')) })],
    [
      'a layer as Nextflow sends it',
      async () => ({
        location: dataUrl(await makeLayer('file1.txt', 'content')),
        gzipDigest: null,
        gzipSize: null,
        tarDigest: null,
        skipHashing: true,
      }),
    ],
  ])('that is %s', async (_, context) => {
    const { targetImage } = await app.build({ containerFile, buildContext: await context() });
    const images = await app.pull(targetImage);
    expect(images.get('linux/amd64')?.rootfs.diff_ids).toHaveLength(1);
  });

  test('count by their files, however they come', async () => {
    const file = { containerFile };
    const one = await app.build({ ...file, buildContext: { 'file1.txt': 'content' } });
    const location = dataUrl(await makeLayer('file1.txt', 'content'));
    const other = await app.build({ ...file, buildContext: { 'file1.txt': 'other' } });
    expect((await app.build({ ...file, buildContext: { location } })).buildId).toBe(one.buildId);
    expect(other.buildId).not.toBe(one.buildId);
  });

  test.each<[string, () => Promise<object>, string]>([
    ['that climbs', async () => ({ '../f': 'x' }), 'build context: "../f": its name has ".."'],
    ['that is no tar', async () => ({ location: 'data:aGVsbG8=' }), 'tar'],
    [
      'that is not what was claimed',
      async () => ({ location: dataUrl(await makeLayer('f', 'x')), gzipSize: 5 }),
      'gzipSize is 5',
    ],
    [
      'that no registry has',
      async () => ({ location: `oci://${app.registry.host}/a@sha256:${'0'.repeat(64)}` }),
      'buildContext: ',
    ],
  ])('%s are refused', async (_, context, message) => {
    const refused = await app.refused({ containerFile, buildContext: await context() });
    expect(refused).toEqual([400, expect.stringContaining(message)]);
    expect(Object(await (await app.request('/v1alpha1/builds')).json()).builds).toEqual([]);
  });
});

test('equal requests at the same time are one build, whose base is read once', async () => {
  const hold = app.holdBase();
  const answers = await Promise.all(Array.from({ length: 20 }, () => app.build()));
  expect(new Set(answers.map(({ buildId }) => buildId)).size).toBe(1);
  expect(new Set(answers.map(({ requestId }) => requestId)).size).toBe(20);
  const pulls = answers.map(({ targetImage }) => app.pull(targetImage));
  hold.release();
  expect(await Promise.all(pulls)).toHaveLength(20);
  const blobs = app.registry.requests.filter(({ method, url }) => method === 'GET' && url.includes('/blobs/'));
  expect(new Set(blobs.map(({ url }) => url)).size).toBe(blobs.length);
});

test('are waited for by anyone who pulls, and reported as they go', async () => {
  const hold = app.holdBase();
  const answer = await app.build({ containerPlatform: 'linux/amd64,linux/arm64' });
  expect(answer).not.toHaveProperty('succeeded');
  const pulled = app.pull(answer.targetImage);
  await hold.asked;
  expect(await app.status(answer)).toEqual({
    id: answer.requestId,
    status: 'BUILDING',
    buildId: answer.buildId,
    creationTime: expect.stringMatching(/^\d{4}-.*Z$/),
  });
  hold.release();
  expect((await pulled).size).toBe(2);
  const status = await app.status(answer);
  expect(status).toMatchObject({ status: 'DONE', succeeded: true, duration: expect.any(Number) });
  expect(JSON.stringify(status)).toMatch(/"duration":\d+\.\d+/);
});

test('that were built before are answered with their digest, and count as cached', async () => {
  const first = await app.build();
  const { digest } = await app.ended(first.buildId);
  expect(await app.build()).toMatchObject({
    buildId: first.buildId,
    cached: true,
    succeeded: true,
    targetDigest: digest,
  });
});

test('are built again when their base has moved', async () => {
  const first = await app.build();
  await app.ended(first.buildId);
  app.putImage({ seed: 2 });
  await app.restart('fresh');
  expect((await app.build()).buildId).not.toBe(first.buildId);
});

describe('with changes on top', () => {
  const containerConfig = { env: ['A=b'], entrypoint: ['/run'] };

  test.each(['before', 'after'])('that are asked for %s it is built', async when => {
    const plain = when === 'after' ? await app.build({ containerPlatform: PLATFORMS.join(',') }) : undefined;
    if (plain) await app.ended(plain.buildId);
    const layers = [{ location: dataUrl(await makeLayer('opt/hello', 'hi')) }];
    const answer = await app.build({
      containerPlatform: PLATFORMS.join(','),
      containerConfig: { ...containerConfig, layers },
    });
    if (plain) expect(answer).toMatchObject({ buildId: plain.buildId, cached: true });
    const images = await app.pull(answer.targetImage);
    expect([...images.keys()]).toEqual(PLATFORMS);
    for (const { config, rootfs } of images.values()) {
      expect(config?.Env).toEqual(expect.arrayContaining(['BUILT=yes', 'A=b']));
      expect([config?.Entrypoint, rootfs.diff_ids?.length]).toEqual([['/run'], 3]);
    }
    // The image itself is as it was built.
    expect(answer).not.toHaveProperty('targetDigest');
    const { digest } = await app.record(answer.buildId);
    expect((await app.pull(`${HOST}/local/builds@${digest}`)).get('linux/amd64')?.config?.Entrypoint).toBeUndefined();
  });

  test('of another image are on each platform', async () => {
    const { targetImage } = await app.build({ containerPlatform: 'amd64,arm64', containerIncludes: [app.base] });
    for (const { rootfs } of (await app.pull(targetImage)).values()) expect(rootfs.diff_ids).toHaveLength(4);
  });

  test('of an image that lacks a platform are refused before anything is built', async () => {
    const body = {
      containerFile: base64(`FROM ${app.base}`),
      containerPlatform: 's390x',
      containerIncludes: [app.base],
    };
    expect(await app.refused(body)).toEqual([
      400,
      expect.stringMatching(/^containerFile: line 1: .* has no image for linux\/s390x/),
    ]);
    expect(Object(await (await app.request('/v1alpha1/builds')).json()).builds).toEqual([]);
  });
});

test('in a dry run are named, and neither built nor kept', async () => {
  const body = { containerConfig: { layers: [{ location: dataUrl(await makeLayer('opt/hello', 'hi')) }] } };
  const dry = await app.build({ ...body, dryRun: true });
  expect(dry).toMatchObject({ cached: false, succeeded: true });
  expect(await app.status(dry)).toMatchObject({ status: 'DONE', succeeded: true });
  expect(Object(await (await app.request('/v1alpha1/builds')).json()).builds).toEqual([]);
  const [, name, tag] = /^[^/]+\/(.+):(.+)$/.exec(dry.targetImage) ?? [];
  const pulled = await app.request(`/v2/${name}/manifests/${tag}`);
  expect([pulled.status, await pulled.text()]).toEqual([404, expect.stringContaining('dry run')]);
  expect((await app.build(body)).buildId).toBe(dry.buildId);
});

test('that fail are reported in one line, with the address of the log', async () => {
  const answer = await app.build({
    containerFile: base64('FROM scratch\nCOPY missing /\n'),
    containerPlatform: 'linux/arm64',
  });
  const record = await app.ended(answer.buildId);
  expect(record).toMatchObject({ status: 'failed', exitStatus: 1, succeeded: false, failure: { kind: 'build' } });
  const status = Object(await app.status(answer));
  expect(status).toMatchObject({
    status: 'DONE',
    succeeded: false,
    reason: record.reason,
    duration: expect.any(Number),
  });
  expect(status.reason).toMatch(/^[^\n]*missing[^\n]*linux\/arm64[^\n]*$/);
  expect(status.detailsUri).toBe(`http://${HOST}/v1alpha1/builds/${answer.buildId}/logs`);
  expect(await (await app.request(new URL(status.detailsUri).pathname)).text()).toContain('missing');

  const [, name, tag] = /^[^/]+\/(.+):(.+)$/.exec(answer.targetImage) ?? [];
  const pulled = await app.request(`/v2/${name}/manifests/${tag}`);
  const { errors } = Object(await pulled.json());
  expect([pulled.status, errors[0].code]).toEqual([404, 'MANIFEST_UNKNOWN']);
  expect(errors[0].message).toContain(`/v1alpha1/builds/${answer.buildId}/logs`);
  expect(
    (await app.build({ containerFile: base64('FROM scratch\nCOPY missing /\n'), containerPlatform: 'arm64' })).buildId,
  ).toBe(answer.buildId.replace(/_1$/, '_2'));
});

test('go on under their id when Veneer starts again, and what waits is served', async () => {
  const hold = app.holdBase();
  const answer = await app.build();
  await hold.asked;
  app.registry.intercept();
  await app.restart();
  expect((await app.pull(answer.targetImage)).size).toBe(1);
  expect(await app.record(answer.buildId)).toMatchObject({ status: 'succeeded' });
});
