// What is different between two images, told field by field.
import { expect, test } from 'vitest';
import { type ImageConfig, imageConfigSchema } from '../../../src/oci/image-config.ts';
import { compareImages, type ImageDescription } from '../../../src/pull/rules/explain-image.ts';

type Run = NonNullable<ImageConfig['config']>;

function describe(config: Run | null, annotations: Readonly<Record<string, string>> = {}): ImageDescription {
  const parsed = imageConfigSchema.parse({ config, rootfs: { type: 'layers' } });
  return { config: parsed, annotations: new Map(Object.entries(annotations)) };
}

const cases: readonly (readonly [string, Run | null, Run | null, readonly object[]])[] = [
  ['a variable that is new', { Env: ['A=1'] }, { Env: ['A=1', 'B=2'] }, [{ field: 'env', key: 'B', after: '2' }]],
  [
    'a variable of another value',
    { Env: ['A=1'] },
    { Env: ['A=2'] },
    [{ field: 'env', key: 'A', before: '1', after: '2' }],
  ],
  ['a variable that is gone', { Env: ['A=1'] }, { Env: [] }, [{ field: 'env', key: 'A', before: '1' }]],
  ['a variable with an equals sign in it', {}, { Env: ['A=b=c'] }, [{ field: 'env', key: 'A', after: 'b=c' }]],
  [
    'a variable without a value',
    {},
    { Env: ['A', 'B='] },
    [
      { field: 'env', key: 'A', after: '' },
      { field: 'env', key: 'B', after: '' },
    ],
  ],
  ['variables in another order', { Env: ['A=1', 'B=2'] }, { Env: ['B=2', 'A=1'] }, []],
  [
    'an entrypoint',
    { Entrypoint: ['a', 'b'] },
    { Entrypoint: ['a b'] },
    [{ field: 'entrypoint', before: ['a', 'b'], after: ['a b'] }],
  ],
  ['a command that is emptied', { Cmd: ['sh'] }, { Cmd: [] }, [{ field: 'cmd', before: ['sh'], after: [] }]],
  ['a directory', {}, { WorkingDir: '/w' }, [{ field: 'workingDir', after: '/w' }]],
  ['a user', { User: '' }, { User: '1000' }, [{ field: 'user', before: '', after: '1000' }]],
  [
    'a label',
    { Labels: { a: '1' } },
    { Labels: { a: '2', constructor: 'b' } },
    [
      { field: 'labels', key: 'a', before: '1', after: '2' },
      { field: 'labels', key: 'constructor', after: 'b' },
    ],
  ],
  [
    'a port',
    { ExposedPorts: { '80/tcp': {} } },
    { ExposedPorts: { '80/tcp': {}, '81/tcp': {} } },
    [{ field: 'exposedPorts', key: '81/tcp', after: '' }],
  ],
  ['nothing where null is all there is', { Env: null, Cmd: null }, null, []],
];

test.each(cases)('tells %s', (_, before, after, differences) => {
  expect(compareImages(describe(before), describe(after))).toEqual(differences);
});

test('tells annotations, and all in one order', () => {
  const target = describe({ User: 'u', Env: ['A=1'] }, { note: 'yes', base: 'x' });
  expect(compareImages(describe(null, { base: 'w' }), target)).toEqual([
    { field: 'env', key: 'A', after: '1' },
    { field: 'user', after: 'u' },
    { field: 'annotations', key: 'note', after: 'yes' },
    { field: 'annotations', key: 'base', before: 'w', after: 'x' },
  ]);
});

test('tells of an image nothing against itself', () => {
  const image = describe({ Env: ['A=1', 'A=2'], Cmd: ['sh'], Labels: { a: 'b' } }, { c: 'd' });
  expect(compareImages(image, image)).toEqual([]);
});
