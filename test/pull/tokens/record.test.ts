// Stored token records: what the schema takes and what it refuses.
import { expect, test } from 'vitest';
import { digestOf } from '../../../src/oci/digest.ts';
import { tokenRecordSchema } from '../../../src/pull/tokens/record.ts';

const digest = digestOf(new Uint8Array([1]));
const layer = { digest, size: 3 };
const record = {
  id: '0123456789ab',
  registry: 'quay.io',
  repository: 'org/app',
  containerImage: 'quay.io/org/app@sha256:x',
  sourceDigest: digest,
  targetDigest: digest,
  augmentation: { layers: [], attestations: 'drop' },
  layerSources: [
    { ...layer, kind: 'stored' },
    { ...layer, kind: 'url', url: 'https://example.com/l.tgz' },
    { ...layer, kind: 'blob', registry: 'quay.io', repository: 'org/layers' },
  ],
  request: {},
  createdAt: '2026-01-02T03:04:05.000Z',
  expiresAt: '2026-01-03T15:04:05.000Z',
};

test('takes a whole record, each kind of layer source, and no tag', () => {
  expect(tokenRecordSchema.parse(record)).toEqual(record);
});

test('takes an id of any version', () => {
  for (const id of ['0123456789ab', '0123456789ab0123456789ab']) {
    expect(tokenRecordSchema.parse({ ...record, id }).id).toBe(id);
  }
});

test('takes the steps of rules, in order', () => {
  const ruleSteps = [
    { rule: 'ca', platforms: ['linux/*'], augmentation: { layers: [], env: { A: '1' }, attestations: 'keep' } },
    { rule: 'audit', augmentation: { layers: [], labels: { a: 'b' }, attestations: 'drop' } },
  ];
  expect(tokenRecordSchema.parse({ ...record, ruleSteps })).toEqual({ ...record, ruleSteps });
});

test.each([
  ['an id that is not hex', { id: '0123456789aZ' }],
  ['an id between the lengths of old and new ones', { id: '0123456789ab0' }],
  ['a digest that is none', { targetDigest: 'sha256:1' }],
  ['a url source without its url', { layerSources: [{ ...layer, kind: 'url' }] }],
  ['a blob source without its repository', { layerSources: [{ ...layer, kind: 'blob', registry: 'quay.io' }] }],
  ['an unknown kind of source', { layerSources: [{ ...layer, kind: 'magic' }] }],
  ['a step without its augmentation', { ruleSteps: [{ rule: 'ca' }] }],
  ['a time that is no instant', { expiresAt: 'tomorrow' }],
])('refuses %s', (_name, change) => {
  expect(tokenRecordSchema.safeParse({ ...record, ...change }).success).toBe(false);
});
