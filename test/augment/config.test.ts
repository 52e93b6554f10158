// The rules for what a container runs with.
import { expect, test } from 'vitest';
import { augmentationSchema } from '../../src/augment/augmentation.ts';
import { augmentConfig } from '../../src/augment/image.ts';
import { generateImage } from '../support/images.ts';
import { createLayer, run } from './fixture.ts';

const base = { seed: 2, platforms: ['linux/amd64'], layers: 1, family: 'oci', index: false } as const;
const augmentRun = async (source: object, input: object) =>
  (await run(generateImage({ ...base, run: { ...source } }), input)).config().config;

test.each([
  [
    'overrides env in place and appends the rest',
    {},
    { env: { NEW: 'a=b', PATH: '/x' } },
    { Env: ['PATH=/x', 'LANG=C', 'NEW=a=b'] },
  ],
  ['sets env where there is none', { Env: null }, { env: { A: '1' } }, { Env: ['A=1'] }],
  ['replaces cmd', {}, { cmd: ['a', 'b'] }, { Cmd: ['a', 'b'] }],
  ['replaces the working directory', { WorkingDir: '/a' }, { workingDir: '/b' }, { WorkingDir: '/b' }],
  ['replaces the user', { User: 'root' }, { user: '1000:1000' }, { User: '1000:1000' }],
  [
    'merges labels',
    { Labels: { a: '1', b: '2' } },
    { labels: { b: '3', c: '4' } },
    { Labels: { a: '1', b: '3', c: '4' } },
  ],
  [
    'merges ports',
    { ExposedPorts: { '80/tcp': {} } },
    { exposedPorts: ['80/tcp', '81/udp'] },
    { ExposedPorts: { '80/tcp': {}, '81/udp': {} } },
  ],
  [
    'keeps cmd when only the entrypoint is given',
    {},
    { entrypoint: ['/e'] },
    { Entrypoint: ['/e'], Cmd: ['sh'], Env: ['PATH=/usr/bin:/bin', 'LANG=C'] },
  ],
  [
    'chains an entrypoint of one element raw',
    { Entrypoint: ['/own'] },
    { entrypoint: ['/e'] },
    { Env: ['PATH=/usr/bin:/bin', 'LANG=C', 'WAVE_ENTRY_CHAIN=/own'] },
  ],
  [
    'chains an entrypoint of several as JSON',
    { Entrypoint: ['/own', '-x'] },
    { entrypoint: ['/e'] },
    { Env: ['PATH=/usr/bin:/bin', 'LANG=C', 'WAVE_ENTRY_CHAIN=["/own","-x"]'] },
  ],
])('%s', async (_, source, input, expected) => {
  const result = await augmentRun(source, input);
  expect(result).toEqual({ ...result, ...expected });
  expect(Object.keys(result)).toEqual(expect.arrayContaining(Object.keys(expected)));
});

test('keeps unknown fields and the order of keys', async () => {
  const image = generateImage({ ...base, run: { Zeta: 1, Entrypoint: ['/own'], Alpha: { b: 1, a: 2 } } });
  const before = (await run(image, {})).config();
  const after = (await run(image, { env: { A: '1' }, entrypoint: ['/e'] })).config();
  expect(Object.keys(after)).toEqual(Object.keys(before));
  expect(Object.keys(after.config)).toEqual(Object.keys(before.config));
  expect(JSON.stringify(after['x-unknown'])).toBe(JSON.stringify(before['x-unknown']));
  expect(JSON.stringify(after.config.Alpha)).toBe('{"b":1,"a":2}');
});

test('tells each layer and the config change in the history, at a time that is the same every day', async () => {
  const layers = [createLayer('a', 'gzip').layer, createLayer('b', 'zstd').layer];
  const { history } = (await run(generateImage(base), { layers, env: { A: '1' } })).config();
  const entry = { created: '2024-02-03T04:05:06Z', created_by: 'veneer' };
  expect(history.slice(2)).toEqual([
    { ...entry, comment: 'layer' },
    { ...entry, comment: 'layer' },
    { ...entry, comment: 'config', empty_layer: true },
  ]);
});

test('tells no history on top of layers that have none', () => {
  const config = { rootfs: { type: 'layers', diff_ids: ['sha256:a'] } };
  const text = augment(JSON.stringify(config), { env: { A: '1' }, layers: [createLayer('a', 'gzip').layer] });
  expect(JSON.parse(text)).not.toHaveProperty('history');
});

test('makes an empty list of a history that is null', () => {
  const config = { rootfs: { type: 'layers', diff_ids: ['sha256:a'] }, history: null };
  const text = augment(JSON.stringify(config), { env: { A: '1' }, layers: [createLayer('a', 'gzip').layer] });
  expect(JSON.parse(text).history).toEqual([]);
});

test('dates its history at the epoch where the source has no date', () => {
  const config = { rootfs: { type: 'layers', diff_ids: [] } };
  expect(JSON.parse(augment(JSON.stringify(config), { env: { A: '1' } })).history).toEqual([
    { created: '1970-01-01T00:00:00Z', created_by: 'veneer', comment: 'config', empty_layer: true },
  ]);
});

test('keeps the very characters of all that nobody named', () => {
  const kept = ['"2":{"1":1.0,"0":9007199254740993}', '"__proto__":{"polluted":1e400}', '"config":{"Kept":0.10,'];
  const text = augment(`{${kept.join()}"Env":["A=0"],"Labels":{"2":"b","1":"a"}},"rootfs":{"type":"layers"}}`, {
    env: { A: '1' },
    labels: { '1': 'c' },
  });
  for (const part of kept) expect(text).toContain(part);
  expect(text).toContain('"Env":["A=1"],"Labels":{"2":"b","1":"c"}');
  expect(Object.hasOwn(Object.prototype, 'polluted')).toBe(false);
});

test.each([
  ['a line end in env', { env: { A: 'a\nb' } }, { Env: ['PATH=/usr/bin:/bin', 'LANG=C', 'A=a\nb'] }],
  ['a line end in the working directory', { workingDir: '/a\nb' }, { WorkingDir: '/a\nb' }],
  ['any text in a label', { labels: { 'a\n"': 'b\n\u2028\ud800' } }, { Labels: { 'a\n"': 'b\n\u2028\ud800' } }],
])('writes %s as it is', async (_, input, expected) => {
  expect(await augmentRun({}, input)).toMatchObject(expected);
});

test.each([
  ['has a key twice', '{"config":{"Env":[],"Env":["A=1"]},"rootfs":{"type":"layers"}}'],
  ['has names that differ by case', '{"config":{"Env":[],"env":["A=1"]},"rootfs":{"type":"layers"}}'],
  ['is not UTF-8', Buffer.from('{"author":"\xff","rootfs":{"type":"layers"}}', 'latin1')],
])('refuses a config that %s', (_, raw) => {
  expect(() => augment(raw, { env: { A: '1' } })).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }));
});

test.each(['labels', 'annotations', 'env'])('refuses %s with the key __proto__, or a NUL', field => {
  for (const map of ['{"__proto__":"a"}', '{"a":"\\u0000"}', '{"a\\u0000":""}']) {
    expect(augmentationSchema.safeParse({ [field]: JSON.parse(map) }).success).toBe(false);
  }
});

function augment(raw: string | Uint8Array, input: object): string {
  const augmentation = augmentationSchema.parse(input);
  return augmentConfig(Buffer.from(raw), augmentation, augmentation.layers)?.text ?? '';
}
