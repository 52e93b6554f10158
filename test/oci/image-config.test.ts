// Image configs: read leniently where old builders left things out, refused where they are none.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/errors.ts';
import { configPlatform, parseImageConfig } from '../../src/oci/image-config.ts';

const rootfs = { type: 'layers', diff_ids: [`sha256:${'0'.repeat(64)}`] };

function parse(value: unknown) {
  return parseImageConfig(Buffer.from(JSON.stringify(value)));
}

test('reads what runs a container', () => {
  const config = { Env: ['A=1'], Entrypoint: null, Cmd: ['sh'], WorkingDir: '/', Labels: { a: 'b' } };
  expect(parse({ os: 'linux', architecture: 'amd64', config, rootfs, history: [{ empty_layer: true }] })).toEqual({
    os: 'linux',
    architecture: 'amd64',
    config,
    rootfs,
    history: [{ empty_layer: true }],
  });
});

test.each([
  [
    { os: 'windows', architecture: 'amd64' },
    { os: 'windows', architecture: 'amd64' },
  ],
  [
    { os: 'linux', architecture: 'arm', variant: 'v6' },
    { os: 'linux', architecture: 'arm', variant: 'v6' },
  ],
  [{ architecture: 'amd64' }, { os: 'linux', architecture: 'amd64' }],
  [{}, { os: 'linux', architecture: '' }],
])('the platform of %j', (value, expected) => {
  expect(configPlatform(parse({ ...value, rootfs }))).toEqual(expected);
});

test.each<[string, object, object]>([
  [
    'everything that may be',
    {
      os: null,
      architecture: null,
      variant: null,
      created: null,
      config: null,
      history: null,
      rootfs: { type: null, diff_ids: null },
    },
    { os: 'linux', architecture: '' },
  ],
  [
    'within the config',
    {
      rootfs,
      config: {
        Env: null,
        Entrypoint: null,
        Cmd: null,
        WorkingDir: null,
        User: null,
        Labels: null,
        ExposedPorts: null,
      },
    },
    { config: { Env: null } },
  ],
  [
    'within lists and maps',
    { rootfs, config: { Env: ['A=1', null], Labels: { a: null } } },
    { config: { Env: ['A=1', ''], Labels: { a: '' } } },
  ],
  ['in the history', { rootfs, history: [null, { empty_layer: null }] }, { history: [{}, { empty_layer: null }] }],
])('takes null for absent: %s', (_, value, expected) => {
  expect(parse(value)).toMatchObject(expected);
});

test.each<[string, object, object]>([
  ['a rootfs of nothing', { rootfs: {} }, { rootfs: {} }],
  ['a rootfs without its type', { rootfs: { diff_ids: rootfs.diff_ids } }, { rootfs: { diff_ids: rootfs.diff_ids } }],
  ['a time that is none', { rootfs, created: 17 }, { rootfs }],
  [
    'an Entrypoint that is one word',
    { rootfs, config: { Entrypoint: '/bin/sh', Cmd: 'x' } },
    { config: { Entrypoint: ['/bin/sh'], Cmd: ['x'] } },
  ],
])('takes what docker takes: %s', (_, value, expected) => {
  expect(parse(value)).toMatchObject(expected);
});

test.each([
  [{ rootfs, config: { Env: ['A=1', 7] } }, 'config.Env[1]: Invalid input: expected string, received number'],
  [{ rootfs: { diff_ids: [{}] } }, 'rootfs.diff_ids[0]: Invalid input: expected string, received object'],
  [{ rootfs, history: ['x'] }, 'history[0]: Invalid input: expected object, received string'],
  [[], 'the document: Invalid input: expected object, received array'],
])('names the field that is odd: %j', (value, message) => {
  expect(() => parse(value)).toThrow(`invalid image config: ${message}`);
});

test.each([
  ['nothing of an image', {}],
  ['a list', []],
  ['rootfs of another form', { rootfs: [] }],
  ['an Env that is text', { rootfs, config: { Env: 'A=1' } }],
  ['diffIDs that are numbers', { rootfs: { type: 'layers', diff_ids: [1] } }],
])('refuses %s', (_name, value) => {
  expect(() => parse(value)).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }));
});

test('any bytes are a config or a RegistryError', () => {
  const texts = fc.record({ os: fc.jsonValue(), config: fc.jsonValue(), rootfs: fc.constant(rootfs) });
  const bytes = fc.oneof(
    fc.uint8Array(),
    fc.json().map(text => new TextEncoder().encode(text)),
    texts.map(value => new TextEncoder().encode(JSON.stringify(value))),
  );
  fc.assert(
    fc.property(bytes, raw => {
      try {
        expect(configPlatform(parseImageConfig(raw)).os).toBeTypeOf('string');
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
      }
    }),
  );
});
