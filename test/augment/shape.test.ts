// Documents that mean one thing to us and another to clients that do not look at the case of a name.
import { expect, test } from 'vitest';
import { CONFIG, checkNames, MANIFEST, type Shape } from '../../src/augment/document.ts';
import { parseJson } from '../../src/augment/json.ts';

const check = (document: object, shape: Shape) => checkNames(parseJson(Buffer.from(JSON.stringify(document))), shape);

test.each<[string, object, Shape]>([
  ['Manifests', { manifests: [], Manifests: [] }, MANIFEST],
  ['MediaType', { MediaType: '' }, MANIFEST],
  ['Layers', { layers: [], Layers: [] }, MANIFEST],
  ['layer\u017f', { 'layer\u017f': [] }, MANIFEST],
  ['Digest', { config: { digest: '', Digest: '' } }, MANIFEST],
  ['SIZE', { layers: [{}, { SIZE: 1 }] }, MANIFEST],
  ['OS', { manifests: [{ platform: { os: 'linux', OS: 'windows' } }] }, MANIFEST],
  ['Architecture', { Architecture: 'arm64' }, CONFIG],
  ['Config', { config: {}, Config: {} }, CONFIG],
  ['env', { config: { Env: [], env: [] } }, CONFIG],
  ['EntryPoint', { config: { EntryPoint: [] } }, CONFIG],
  ['DIFF_IDS', { rootfs: { DIFF_IDS: [] } }, CONFIG],
  ['Empty_Layer', { history: [{ Empty_Layer: true }] }, CONFIG],
])('refuses the name %s', (name, document, shape) => {
  expect(() => check(document, shape)).toThrow(
    expect.objectContaining({ code: 'MANIFEST_INVALID', message: expect.stringContaining(JSON.stringify(name)) }),
  );
});

test.each<[string, object, Shape]>([
  ['names that are ours', { schemaVersion: 2, config: { digest: '' }, layers: [{ mediaType: '' }] }, MANIFEST],
  ['annotations, which are anybody’s', { annotations: { Digest: 'a', digest: 'b', LAYERS: 'c' } }, MANIFEST],
  ['labels, which are anybody’s', { config: { Labels: { a: '1', A: '2', Env: '3' } } }, CONFIG],
  ['names that nobody knows', { 'x-Layers': [], X: { Layers: [] }, x: 1 }, MANIFEST],
  ['the old config of a container', { container_config: { env: [] } }, CONFIG],
])('takes %s', (_, document, shape) => {
  expect(() => check(document, shape)).not.toThrow();
});
