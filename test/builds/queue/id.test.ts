// Ids are for ever: what is pinned here must never change.
import { expect, test } from 'vitest';
import { imageOf, specKey } from '../../../src/builds/queue/id.ts';
import { specSchema } from '../../../src/builds/spec.ts';
import { specOf } from './fixture.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const changes = { augmentation: { env: { B: '1', A: '2' } }, layerSources: [] };
const copy = {
  kind: 'copy',
  source: { registry: 'docker.io', repository: 'library/alpine', tag: '3', digest: DIGEST },
  target: { repository: 'local/mirrors' },
};
const full = {
  context: { digest: DIGEST, size: 10 },
  bases: { alpine: DIGEST },
  args: { B: '1', A: '2' },
  stage: 'run',
  labels: { x: 'y' },
  secrets: ['npm'],
  network: 'none',
  attestations: { sbom: true, provenance: 'max' },
  compression: { mode: 'zstd', level: 3 },
  cacheRepository: 'local/cache',
  changes,
  target: { repository: 'local/builds', tag: 'one', tagPrefix: 'two' },
};

test.each([
  ['a plain build', specOf('alpine'), 'bd-699f2af8851b3918'],
  ['a build with everything', specOf('alpine', full), 'bd-7394a4d1c856d6a5'],
  ['a mirror', specSchema.parse(copy), 'mr-93417ccb2f28fd4a'],
  ['a frozen image', specSchema.parse({ ...copy, changes }), 'bd-da529ccd9fd3d5bc'],
])('the id of %s is pinned', (_, spec, key) => {
  expect(specKey(spec)).toBe(key);
});

test.each<[string, object]>([
  ['file', { containerFile: 'FROM other' }],
  ['context', { context: { digest: DIGEST, size: 1 } }],
  ['platforms', { platforms: ['linux/amd64'] }],
  ['the order of platforms', { platforms: ['linux/arm64', 'linux/amd64'] }],
  ['bases', { bases: { alpine: DIGEST } }],
  ['arguments', { args: { A: '1' } }],
  ['stage', { stage: 'a' }],
  ['labels', { labels: { a: 'b' } }],
  ['secrets', { secrets: ['a'] }],
  ['ssh', { ssh: ['a'] }],
  ['network', { network: 'none' }],
  ['attestations', { attestations: { sbom: true } }],
  ['compression', { compression: { mode: 'zstd' } }],
  ['cache', { cacheRepository: 'local/cache' }],
  ['changes', { changes }],
  ['repository', { target: { repository: 'local/other' } }],
  ['tag', { target: { repository: 'local/builds', tag: 'a' } }],
  ['prefix', { target: { repository: 'local/builds', tagPrefix: 'a' } }],
])('another id with another %s', (_, change) => {
  expect(specKey(specOf('alpine', change))).not.toBe(specKey(specOf('alpine')));
});

test('the order of variables that end up in an image counts', () => {
  const turned = { augmentation: { env: { A: '2', B: '1' } }, layerSources: [] };
  expect(specKey(specOf('alpine', { changes: turned }))).not.toBe(specKey(specOf('alpine', { changes })));
});

test('neither the time-out nor the order of arguments is a part of the id', () => {
  const one = specOf('alpine', { args: { A: '1', B: '2' } });
  const other = specOf('alpine', { args: { B: '2', A: '1' }, timeoutMs: 5 });
  expect(specKey(other)).toBe(specKey(one));
});

test.each([
  [{ repository: 'local/builds', tag: 'mine' }, /^local\/builds:mine$/],
  [{ repository: 'local/builds' }, /^local\/builds:[0-9a-f]{16}$/],
  [{ repository: 'local/builds', tagPrefix: 'make-4' }, /^local\/builds:make-4--[0-9a-f]{16}$/],
  [{ repository: 'a', tagPrefix: 'p'.repeat(200) }, /^a:p{110}--[0-9a-f]{16}$/],
])('names the image of %j', (target, expected) => {
  expect(imageOf(specOf('alpine', { target }))).toMatch(expected);
});
