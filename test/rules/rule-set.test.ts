// What rules make of an image, and of layers that cannot be had now.
import { expect, test } from 'vitest';
import { InvalidLayer } from '../../src/augment/budget.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { createRemoteLayers } from '../../src/rules/reload/open-rules.ts';
import { createRuleSet, type GetLayers } from '../../src/rules/rule-set.ts';
import type { DescribedLayer, RuleOptions } from '../../src/rules/rules.ts';

const PULLED = { repository: 'docker.io/library/alpine', tag: '3', caller: undefined };

function rule(name: string, options: Partial<RuleOptions> = {}): RuleOptions {
  return {
    name,
    match: { image: ['**'], not: [] },
    layers: [],
    changes: { env: { A: name } },
    pinned: 'untouched',
    ...options,
  };
}

function described(name: string, platforms?: readonly string[]): DescribedLayer {
  const bytes = { digest: digestOf(Buffer.from(name)), size: name.length };
  return {
    layer: { ...bytes, diffId: bytes.digest, compression: 'none', ...(platforms && { platforms }) },
    source: { ...bytes, kind: 'shelf' },
  };
}

function setOf(rules: readonly RuleOptions[], getLayers: GetLayers = async () => []) {
  return createRuleSet({ rules, getLayers, attestations: 'keep' });
}

test('the rules for an image are its steps, in their order, with what the configuration says of attestations', async () => {
  const platform = ['linux/*'];
  const rules = [
    rule('b', { match: { image: ['docker.io/**'], not: [], platform } }),
    rule('other', { match: { image: ['ghcr.io/**'], not: [] } }),
    rule('a', { changes: { cmd: ['sh'] } }),
  ];
  expect(await setOf(rules).find(PULLED)).toMatchObject({
    steps: [
      { rule: 'b', platforms: platform, augmentation: { layers: [], env: { A: 'b' }, attestations: 'keep' } },
      { rule: 'a', platforms: undefined, augmentation: { layers: [], cmd: ['sh'], attestations: 'keep' } },
    ],
    layerSources: [],
  });
});

test('an image that no rule is for gets nothing, and every rule says why', async () => {
  const rules = [
    rule('one', { match: { image: ['ghcr.io/**'], not: [] } }),
    rule('two', { match: { image: ['**'], not: ['**:3'] } }),
  ];
  const set = setOf(rules);
  expect(await set.find(PULLED)).toBeUndefined();
  expect(set.judge(PULLED)).toEqual([
    { rule: rules[0], applies: false, reason: 'no pattern of images matches docker.io/library/alpine:3' },
    { rule: rules[1], applies: false, reason: 'not: **:3 matches' },
  ]);
});

test('layers come in their order, with where their bytes are', async () => {
  const layers: RuleOptions['layers'] = [
    { kind: 'directory', path: 'a' },
    { kind: 'file', path: 'b', platforms: ['linux/arm64'] },
  ];
  const found = await setOf([rule('one', { layers })], async layer => [
    described('path' in layer ? layer.path : ''),
  ]).find(PULLED);
  expect(found?.steps[0]?.augmentation.layers).toEqual([described('a').layer, described('b', ['linux/arm64']).layer]);
  expect(found?.layerSources).toEqual([described('a').source, described('b').source]);
  expect(found?.ruleLayers).toEqual([layers]);
});

test('of the layers of an image those stay that the rule wants', async () => {
  const image = [described('1', ['linux/amd64']), described('2', ['linux/arm64']), described('3', ['linux/s390x'])];
  const layers: RuleOptions['layers'] = [{ kind: 'image', image: 'tools', platforms: ['linux/arm64', 'linux/amd64'] }];
  const found = await setOf([rule('one', { layers })], async () => image).find(PULLED);
  expect(found?.steps[0]?.augmentation.layers).toEqual([image[0]?.layer, image[1]?.layer]);
  expect(found?.layerSources).toEqual([image[0]?.source, image[1]?.source]);
});

test.each([
  ['a registry that is down', new RegistryError('UNKNOWN', 'ghcr.io does not answer', { status: 502 })],
  ['a layer that is none', new InvalidLayer('layer: not a tar')],
])('%s is reported with rule and layer, as something that passes', async (_, cause) => {
  const layers: RuleOptions['layers'] = [
    { kind: 'directory', path: 'a' },
    { kind: 'image', image: 'tools' },
  ];
  const set = setOf([rule('tools', { layers })], async layer => {
    if (layer.kind === 'image') throw cause;
    return [];
  });
  await expect(set.find(PULLED)).rejects.toMatchObject({
    ...{ code: 'UNAVAILABLE', status: 503, cause },
    message: `the rule "tools" cannot be applied now: layers[1]: ${cause.message}`,
  });
});

test('what is wrong with us is not reported as a fault of the rule', async () => {
  const failure = new TypeError('a mistake');
  const set = setOf([rule('one', { layers: [{ kind: 'image', image: 'x' }] })], () => Promise.reject(failure));
  await expect(set.find(PULLED)).rejects.toBe(failure);
});

test('rules that refuse a digest are those that may have meant its image', () => {
  const refusing = (name: string, image: string) =>
    rule(name, { pinned: 'refused', match: { image: [image], not: [] } });
  const rules = [refusing('tag', '**:3'), refusing('other', 'ghcr.io/**'), rule('mild'), refusing('all', '**')];
  expect(
    setOf(rules)
      .refusesPinned(PULLED)
      .map(({ name }) => name),
  ).toEqual(['tag', 'all']);
});

test('a remote layer is asked for once, by all who need it at a time, and again after a failure', async () => {
  const asked: string[] = [];
  let answers = false;
  const remote = createRemoteLayers(async layer => {
    asked.push(layer.kind);
    if (!answers) throw new RegistryError('UNAVAILABLE', 'down');
    return [described('x')];
  });
  const layer = { kind: 'image', image: 'tools' } as const;
  const both = await Promise.allSettled([remote.get(layer), remote.get(layer)]);
  expect([both.map(({ status }) => status), asked.length]).toEqual([['rejected', 'rejected'], 1]);
  answers = true;
  expect(await remote.get(layer)).toEqual([described('x')]);
  expect(await remote.get({ ...layer })).toEqual([described('x')]);
  expect(asked.length).toBe(2);
});
