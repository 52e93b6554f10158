// Answers of the augment API, as JSON that existing clients read.
import { expect, test } from 'vitest';
import { type BuildRecord, buildRecordSchema } from '../../../src/builds/record.ts';
import {
  describeTokenResponse,
  recordResponse,
  statusResponse,
  submitResponse,
} from '../../../src/http/wave/submit-response.ts';
import { createParseSubmit } from '../../../src/http/wave/submit-schema.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import type { TokenRecord } from '../../../src/pull/tokens/record.ts';
import { shownRequest } from '../../../src/submit/submit.ts';

const host = 'veneer.example:8080';
const view = { host, addressOf: (image: string) => `${host}/${image}` };
const logAddress = (id: string) => `https://veneer.example/logs/${id}`;
const sourceDigest = digestOf(new Uint8Array([1]));
const targetDigest = digestOf(new Uint8Array([2]));
const record: TokenRecord = {
  id: '0123456789ab',
  registry: 'docker.io',
  repository: 'library/alpine',
  tag: '3',
  containerImage: 'alpine:3',
  sourceDigest,
  targetDigest,
  augmentation: { layers: [], attestations: 'drop' },
  layerSources: [{ digest: sourceDigest, size: 1, kind: 'url', url: 'https://h/l?sig=secret' }],
  request: { containerConfig: { env: ['A=b'] }, containerIncludes: [], towerWorkspaceId: 7 },
  createdAt: '2026-01-02T03:04:05.000Z',
  expiresAt: '2026-01-03T15:04:05.000Z',
};
const target = `${host}/wt/0123456789ab/library/alpine:3`;
const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const ID = 'bd-0123456789abcdef_1';
const waiting: TokenRecord = {
  ...{ id: record.id, createdAt: record.createdAt, expiresAt: record.expiresAt, request: {} },
  registry: 'local',
  repository: 'builds',
  tag: '0123456789abcdef',
  containerImage: 'local/builds:0123456789abcdef',
  buildId: ID,
  augmentation: { layers: [], attestations: 'keep' },
  layerSources: [],
};
const frozen: TokenRecord = { ...waiting, frozenImage: 'local/builds:0123456789abcdef' };

function buildOf(status: BuildRecord['status'], rest: object = {}): BuildRecord {
  return buildRecordSchema.parse({
    id: ID,
    spec: {
      kind: 'containerfile',
      containerFile: 'FROM a',
      platforms: ['linux/amd64'],
      bases: {},
      target: { repository: 'local/builds' },
    },
    image: 'local/builds:0123456789abcdef',
    status,
    caller: '',
    priority: 0,
    createdAt: '2026-01-02T03:04:05.000Z',
    starts: 1,
    ...rest,
  });
}

const endedAt = '2026-01-02T03:04:15.000Z';
const succeeded = buildOf('succeeded', { endedAt, digest: targetDigest });
const failure = { kind: 'build', reason: 'exit code: 1', platform: 'linux/arm64', step: 'RUN false' };
const failed = buildOf('failed', { endedAt, failure });

test('answers a submit so that clients wait for nothing', () => {
  expect(json(submitResponse({ record }, view))).toEqual({
    requestId: '0123456789ab',
    containerToken: '0123456789ab',
    targetImage: target,
    targetDigest,
    expiration: '2026-01-03T15:04:05.000Z',
    containerImage: 'alpine:3',
    freeze: false,
    mirror: false,
    succeeded: true,
  });
});

test('answers a submit for a build with its id, and says nothing of its outcome while it is open', () => {
  expect(json(submitResponse({ record: waiting, build: buildOf('queued'), isCached: false }, view))).toEqual({
    requestId: '0123456789ab',
    containerToken: '0123456789ab',
    targetImage: `${host}/wt/0123456789ab/builds:0123456789abcdef`,
    expiration: '2026-01-03T15:04:05.000Z',
    containerImage: 'local/builds:0123456789abcdef',
    buildId: ID,
    cached: false,
    freeze: false,
    mirror: false,
  });
});

test.each([
  ['frozen', frozen, { freeze: true, mirror: false }],
  ['mirrored', { ...frozen, isMirrored: true }, { freeze: false, mirror: true }],
])('names a %s image by its repository, with no token and no end', (_, kept, kind) => {
  const answer = json(submitResponse({ record: kept, build: succeeded, isCached: true }, view));
  expect(answer).toMatchObject({ ...kind, targetImage: `${host}/local/builds:0123456789abcdef`, targetDigest });
  expect(answer).toMatchObject({ cached: true, succeeded: true });
  expect(Object.keys(Object(answer)).filter(key => ['containerToken', 'expiration'].includes(key))).toEqual([]);
});

test('gives the first version of the API a token and its end also for a frozen image', () => {
  expect(submitResponse({ record: frozen, build: succeeded }, view, 1)).toMatchObject({
    containerToken: record.id,
    expiration: record.expiresAt,
  });
});

test('names the target by our digest where the request named a digest', () => {
  expect(submitResponse({ record: { ...record, tag: undefined } }, view).targetImage).toBe(
    `${host}/wt/0123456789ab/library/alpine@${targetDigest}`,
  );
});

const failedReason = { reason: 'exit code: 1 (linux/arm64, RUN false)', detailsUri: logAddress(ID) };
test.each<[string, TokenRecord, BuildRecord | undefined, object]>([
  ['an augmented image', record, undefined, { status: 'DONE', succeeded: true, duration: 0.001 }],
  ['a build that waits', waiting, buildOf('queued'), { status: 'PENDING', buildId: ID }],
  ['a build that runs', waiting, buildOf('running'), { status: 'BUILDING', buildId: ID }],
  ['one that succeeded', waiting, succeeded, { status: 'DONE', buildId: ID, succeeded: true, duration: 10.001 }],
  [
    'one that failed',
    waiting,
    failed,
    { status: 'DONE', buildId: ID, succeeded: false, duration: 10.001, ...failedReason },
  ],
  [
    'one whose record was let go',
    waiting,
    undefined,
    {
      status: 'DONE',
      buildId: ID,
      succeeded: false,
      duration: 0.001,
      reason: `the record of ${ID} was deleted`,
    },
  ],
  [
    'one that was built before, and whose record was let go',
    { ...waiting, sourceDigest },
    undefined,
    { status: 'DONE', buildId: ID, succeeded: true, duration: 0.001 },
  ],
  [
    'a dry run',
    { ...waiting, isDryRun: true },
    undefined,
    { status: 'DONE', buildId: ID, succeeded: true, duration: 0.001 },
  ],
  [
    'a copy',
    { ...waiting, buildId: 'mr-0123456789abcdef_1' },
    buildOf('running'),
    { status: 'BUILDING', mirrorId: 'mr-0123456789abcdef_1' },
  ],
])('answers the status of %s', (_, kept, build, expected) => {
  const status = statusResponse({ record: kept, build }, logAddress);
  expect(json(status)).toEqual({ id: '0123456789ab', creationTime: '2026-01-02T03:04:05.000Z', ...expected });
  if ('duration' in expected) expect(JSON.stringify(status.duration)).toMatch(/^\d+\.\d+$/);
});

test('shows a record without absent fields and without the addresses of its layers', () => {
  expect(json(recordResponse({ record }, view))).toEqual({
    id: '0123456789ab',
    workspaceId: 7,
    containerImage: 'alpine:3',
    containerConfig: { env: ['A=b'] },
    timestamp: '2026-01-02T03:04:05.000Z',
    sourceImage: 'docker.io/library/alpine:3',
    sourceDigest,
    waveImage: target,
    waveDigest: targetDigest,
    expiration: '2026-01-03T15:04:05.000Z',
    freeze: false,
    mirror: false,
    succeeded: true,
  });
});

test('shows the digest that was built, unless the token changes it', () => {
  const changed: TokenRecord = { ...waiting, augmentation: { ...waiting.augmentation, env: { A: 'b' } } };
  expect(recordResponse({ record: waiting, build: succeeded }, view)).toMatchObject({ waveDigest: targetDigest });
  expect(json(recordResponse({ record: changed, build: succeeded }, view))).not.toHaveProperty('waveDigest');
});

test('describes a token', () => {
  expect(json(describeTokenResponse({ record }, view))).toEqual({
    token: '0123456789ab',
    expiration: '2026-01-03T15:04:05.000Z',
    request: {
      workspaceId: 7,
      containerImage: 'alpine:3',
      containerConfig: { env: ['A=b'] },
      timestamp: '2026-01-02T03:04:05.000Z',
    },
    source: { image: 'docker.io/library/alpine:3', digest: sourceDigest },
    wave: { image: target, digest: targetDigest },
  });
});

test('keeps layer data, access tokens and secrets of addresses out of the request that is shown', () => {
  const body = {
    containerImage: 'alpine',
    towerAccessToken: 'secret',
    containerPlatform: 'arm64',
    containerConfig: {
      cmd: ['true'],
      layers: [{ location: 'data:c2VjcmV0' }, { location: 'https://h:1/l.tgz?sig=secret#secret' }],
    },
  };
  const limits = { maxLocationCharacters: 100, maxIncludes: 1, maxContainerFileCharacters: 100 };
  const request = createParseSubmit(limits)(body);
  expect(JSON.stringify(request.build)).not.toContain('secret');
  expect(json(shownRequest(request))).toEqual({
    containerPlatform: 'arm64',
    containerIncludes: [],
    containerConfig: { cmd: ['true'], layers: [{ location: 'data:' }, { location: 'https://h:1/l.tgz' }] },
  });
});
