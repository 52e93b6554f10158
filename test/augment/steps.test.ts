// Steps: which are for a platform, and what they make of it together.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  augmentationFor,
  augmentationSchema,
  choiceOf,
  type Steps,
  stepsFor,
  stepsKey,
  stepsSchema,
} from '../../src/augment/augmentation.ts';
import { formatPlatform, parsePlatform } from '../../src/oci/platform.ts';
import { generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { createLayer, run } from './fixture.ts';

const amd64 = parsePlatform('linux/amd64');
const { layer: a, raw: rawA } = createLayer('a', 'gzip');
const { layer: b, raw: rawB } = createLayer('b', 'gzip', ['linux/arm64']);

function steps(...augmentations: readonly object[]): Steps {
  return stepsSchema.parse(augmentations.map(augmentation => ({ augmentation })));
}

describe('merging', () => {
  test.each<[string, object, object, object]>([
    ['layers one after the other', { layers: [a] }, { layers: [b] }, { layers: [a, b] }],
    [
      'env by key, in the place of the earlier',
      { env: { A: '1', B: '2' } },
      { env: { C: '3', A: '4' } },
      { env: { A: '4', B: '2', C: '3' } },
    ],
    ['labels by key', { labels: { a: '1' } }, { labels: { a: '2', b: '3' } }, { labels: { a: '2', b: '3' } }],
    [
      'annotations by key',
      { annotations: { a: '1' } },
      { annotations: { b: '2' } },
      { annotations: { a: '1', b: '2' } },
    ],
    [
      'ports, each once',
      { exposedPorts: ['1/tcp', '2/tcp'] },
      { exposedPorts: ['2/tcp', '3/udp'] },
      { exposedPorts: ['1/tcp', '2/tcp', '3/udp'] },
    ],
    [
      'the last entrypoint, and none of its words with others',
      { entrypoint: ['a', 'b'] },
      { entrypoint: ['c'] },
      { entrypoint: ['c'] },
    ],
    [
      'the last that is given, though it is empty',
      { cmd: ['a'], user: 'a', workingDir: '/a' },
      { cmd: [], user: '' },
      { cmd: [], user: '', workingDir: '/a' },
    ],
    [
      'the earlier where the later gives none',
      { entrypoint: ['a'], labels: { a: '1' }, exposedPorts: ['1/tcp'] },
      {},
      { entrypoint: ['a'], labels: { a: '1' }, exposedPorts: ['1/tcp'] },
    ],
    ['attestations as the last wants them', { attestations: 'keep' }, {}, { attestations: 'drop' }],
    ['the last choice of platforms', { platforms: ['linux/arm64'] }, {}, { platforms: ['linux/arm64'] }],
  ])('takes %s', (_, earlier, later, merged) => {
    const result = augmentationFor(steps(earlier, later), amd64);
    expect(result).toEqual(augmentationSchema.parse(merged));
    expect(Object.keys(result.env ?? {})).toEqual(Object.keys(augmentationSchema.parse(merged).env ?? {}));
  });

  const text = fc.string({ maxLength: 5 }).map(value => value.replaceAll('\0', ''));
  const map = fc.option(
    fc.dictionary(
      text.filter(key => key !== '__proto__'),
      text,
      { maxKeys: 4 },
    ),
    { nil: undefined },
  );
  const list = fc.option(fc.array(text, { maxLength: 3 }), { nil: undefined });
  const single = fc.option(text, { nil: undefined });
  const augmentations = fc
    .record({
      layers: fc.subarray([a, b]),
      ...{ env: map, labels: map, annotations: map, entrypoint: list, cmd: list, workingDir: single, user: single },
      exposedPorts: fc.option(fc.uniqueArray(text, { maxLength: 3 }), { nil: undefined }),
      attestations: fc.constantFrom('drop', 'keep'),
    })
    .map(value => augmentationSchema.parse(value));

  test('of one step for all platforms gives its augmentation', () => {
    fc.assert(
      fc.property(augmentations, augmentation => {
        expect(augmentationFor([{ augmentation }], amd64)).toEqual(augmentation);
      }),
    );
  });

  test('of some steps, and then with the others, gives what all give at once', () => {
    fc.assert(
      fc.property(augmentations, augmentations, augmentations, (first, second, third) => {
        const merged = augmentationFor([{ augmentation: first }, { augmentation: second }], amd64);
        const all = [first, second, third].map(augmentation => ({ augmentation }));
        expect(augmentationFor([{ augmentation: merged }, { augmentation: third }], amd64)).toEqual(
          augmentationFor(all, amd64),
        );
      }),
    );
  });
});

describe('platforms', () => {
  test.each([
    ['linux/*', 'linux/amd64', true],
    ['linux/*', 'linux/arm/v6', true],
    ['linux/arm', 'linux/arm/v7', true],
    ['linux/arm/v7', 'linux/arm', true],
    ['linux/arm/v7', 'linux/arm/v6', false],
    ['linux/arm*', 'linux/arm64/v8', true],
    ['linux/amd64', 'linux/x86_64', true],
    ['linux/{amd64,arm64}', 'linux/aarch64', true],
    ['linux/*', 'windows/amd64', false],
    ['*/amd64', 'windows/amd64', true],
    ['linux/arm64', 'linux/amd64', false],
    ['linux/*', 'unknown/unknown', false],
  ])('%s: %s is %s', (glob, platform, isMatch) => {
    const [os = '', architecture = '', variant] = platform.split('/');
    const list = stepsSchema.parse([{ platforms: [glob], augmentation: {} }]);
    expect(stepsFor(list, { os, architecture, variant })).toHaveLength(isMatch ? 1 : 0);
  });

  test('have what their own steps say, in order, and the choice of all steps', () => {
    const list = stepsSchema.parse([
      { rule: 'ca', platforms: ['linux/*'], augmentation: { layers: [a], env: { A: '1' }, attestations: 'drop' } },
      { rule: 'arm', platforms: ['linux/arm64'], augmentation: { layers: [b], env: { A: '2' } } },
      { augmentation: { user: 'me', platforms: ['linux/arm64', 'linux/amd64'], attestations: 'keep' } },
    ]);
    const choice = { platforms: ['linux/arm64', 'linux/amd64'], attestations: 'keep' };
    expect(choiceOf(list)).toEqual(choice);
    expect(augmentationFor(list, amd64)).toEqual({ ...choice, layers: [a], env: { A: '1' }, user: 'me' });
    expect(augmentationFor(list, parsePlatform('arm64'))).toEqual({
      ...choice,
      layers: [a, b],
      env: { A: '2' },
      user: 'me',
    });
    expect(augmentationFor(list, parsePlatform('windows/amd64'))).toEqual({ ...choice, layers: [], user: 'me' });
  });
});

describe('keys', () => {
  const [ca] = stepsSchema.parse([{ rule: 'ca', platforms: ['linux/*'], augmentation: { env: { A: '1', B: '2' } } }]);
  const [own] = stepsSchema.parse([{ augmentation: { user: 'me' } }]);
  if (!ca || !own) throw new Error('no steps');

  test('are the same for equal steps, as they come from a store', () => {
    expect(stepsKey(stepsSchema.parse(JSON.parse(JSON.stringify([own, ca]))))).toBe(stepsKey([own, ca]));
    const { layers, ...rest } = ca.augmentation;
    expect(stepsKey([{ ...ca, augmentation: { ...rest, layers } }])).toBe(stepsKey([ca]));
  });

  test.each<[string, Steps]>([
    ['their order', [own, ca]],
    ['a step', [ca]],
    ['a rule', [{ ...ca, rule: 'other' }, own]],
    ['a platform', [{ ...ca, platforms: ['windows/*'] }, own]],
    ['the order of env', [{ ...ca, augmentation: { ...ca.augmentation, env: { B: '2', A: '1' } } }, own]],
  ])('differ with %s', (_, other) => {
    expect(stepsKey(other)).not.toBe(stepsKey([ca, own]));
  });
});

describe('an image', () => {
  const platforms = ['linux/amd64', 'linux/arm64', 'linux/arm/v7', 'windows/amd64'];
  const image = generateImage({ seed: 5, platforms, layers: 2, family: 'oci', attestations: true, nested: true });

  test('is the same, byte for byte, on platforms that no step is for', async () => {
    const input = [{ rule: 'arm', platforms: ['linux/arm*'], augmentation: { layers: [a, b], env: { A: '1' } } }];
    const result = await run(image, input, [rawA, rawB]);
    const changed = result.images.filter(({ source, target }) => source !== target);
    expect(changed.map(({ platform }) => formatPlatform(platform))).toEqual(['linux/arm64', 'linux/arm/v7']);
    const manifests = await checkImage(result.root, result.read);
    expect(manifests.map(({ layers }) => layers.length)).toEqual([2, 4, 3, 2]);
  });

  test('is the same wholly where no step is for any of its platforms', async () => {
    const { root, documents, unchanged } = await run(image, [
      { platforms: ['freebsd/*'], augmentation: { user: 'me' } },
    ]);
    expect(root).toEqual(image.root);
    expect(documents).toEqual([]);
    expect(unchanged).toContain(root.digest);
  });

  test('has the layers of all steps on top of each other, and one change of its config', async () => {
    const { layer, raw } = createLayer('c', 'none');
    const input = [
      { rule: 'one', augmentation: { layers: [a], entrypoint: ['/one'] } },
      { rule: 'two', augmentation: { layers: [layer], entrypoint: ['/two'] } },
    ];
    const source = generateImage({
      seed: 6,
      platforms: ['linux/amd64'],
      layers: 1,
      family: 'oci',
      run: { Entrypoint: ['/app'] },
    });
    const { root, read, config, json, images } = await run(source, input, [rawA, raw]);
    await checkImage(root, read);
    const { layers } = json({ digest: images[0]?.target ?? '' });
    expect(layers.slice(1).map(({ digest }: { digest: string }) => digest)).toEqual([a.digest, layer.digest]);
    expect(config().config).toMatchObject({
      Entrypoint: ['/two'],
      Env: expect.arrayContaining(['WAVE_ENTRY_CHAIN=/app']),
    });
    expect(config().history.filter((entry: { comment?: string }) => entry.comment === 'config')).toHaveLength(1);
  });

  test('has the bytes that one step with all changes gives', async () => {
    const together = await run(image, { layers: [a, b], env: { A: '1' }, labels: { x: 'y' } }, [rawA, rawB]);
    const apart = [
      { rule: 'one', augmentation: { layers: [a], env: { A: '1' } } },
      { rule: 'two', augmentation: { layers: [b], labels: { x: 'y' } } },
    ];
    expect((await run(image, apart, [rawA, rawB])).root).toEqual(together.root);
  });
});
