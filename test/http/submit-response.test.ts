// Answers of the augment API, as JSON that existing clients read.
import { expect, test } from 'vitest';
import { parseSubmit } from '../../src/http/augment-schema.ts';
import {
  describeTokenResponse,
  recordResponse,
  shownRequest,
  statusResponse,
  submitResponse,
} from '../../src/http/submit-response.ts';
import { digestOf } from '../../src/oci/digest.ts';
import type { TokenRecord } from '../../src/tokens/record.ts';

const HOST = 'veneer.example:8080';
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
const target = `${HOST}/wt/0123456789ab/library/alpine:3`;
const json = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

test('answers a submit so that clients wait for nothing', () => {
  expect(json(submitResponse(record, HOST))).toEqual({
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

test('names the target by our digest where the request named a digest', () => {
  expect(submitResponse({ ...record, tag: undefined }, HOST).targetImage).toBe(
    `${HOST}/wt/0123456789ab/library/alpine@${targetDigest}`,
  );
});

test('answers a status that is done, with a duration that is no integer', () => {
  const status = statusResponse(record);
  expect(json(status)).toEqual({
    id: '0123456789ab',
    status: 'DONE',
    succeeded: true,
    creationTime: '2026-01-02T03:04:05.000Z',
    duration: expect.any(Number),
  });
  expect(JSON.stringify(status.duration)).toMatch(/^\d+\.\d+$/);
});

test('shows a record without absent fields and without the addresses of its layers', () => {
  expect(json(recordResponse(record, HOST))).toEqual({
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

test('describes a token', () => {
  expect(json(describeTokenResponse(record, HOST))).toEqual({
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
      layers: [{ location: 'data:c2VjcmV0' }, { location: 'https://me:secret@h:1/l.tgz?sig=secret#secret' }],
    },
  };
  const shown = shownRequest(parseSubmit(body, { maxLocationCharacters: 100, maxIncludes: 1 }));
  expect(json(shown)).toEqual({
    containerPlatform: 'arm64',
    containerIncludes: [],
    containerConfig: { cmd: ['true'], layers: [{ location: 'data:' }, { location: 'https://h:1/l.tgz' }] },
  });
});
