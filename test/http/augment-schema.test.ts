// Submit requests: what they mean, and which field a refusal names.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ApiError } from '../../src/http/api-error.ts';
import { parseSubmit } from '../../src/http/augment-schema.ts';

const limits = { maxLocationCharacters: 40, maxIncludes: 2 };
const digest = `sha256:${'a'.repeat(64)}`;
const parse = (body: unknown) => parseSubmit(body, limits);
const parseConfig = (containerConfig: unknown) => parse({ containerImage: 'alpine', containerConfig }).containerConfig;

function faultOf(body: unknown): { status: number; message: string } {
  try {
    parse(body);
  } catch (error) {
    if (error instanceof ApiError) return { status: error.status, message: error.message };
    throw error;
  }
  throw new Error('parsed');
}

test('takes an image alone: all platforms, no config', () => {
  expect(parse({ containerImage: 'quay.io/org/app:1' })).toEqual({
    containerImage: 'quay.io/org/app:1',
    platforms: undefined,
    containerConfig: undefined,
    containerIncludes: [],
    dryRun: false,
  });
});

test('reads null, empty and unknown fields as if absent', () => {
  const noise = {
    containerFile: null,
    condaFile: '',
    packages: { type: null, entries: [] },
    freeze: null,
    format: null,
    scanMode: null,
    containerPlatform: '',
    containerIncludes: [],
    towerWorkspaceId: null,
    buildContext: null,
    novelty: { a: 1 },
  };
  expect(parse({ containerImage: 'alpine', ...noise })).toEqual(parse({ containerImage: 'alpine' }));
});

test('takes false and none for what this version does not do', () => {
  const body = { containerImage: 'alpine', freeze: false, mirror: false, scanMode: 'none' };
  expect(parse(body).containerImage).toBe('alpine');
});

test('takes platforms as one string with commas', () => {
  expect(parse({ containerImage: 'alpine', containerPlatform: 'linux/amd64,arm64' }).platforms).toEqual([
    { os: 'linux', architecture: 'amd64' },
    { os: 'linux', architecture: 'arm64' },
  ]);
});

test.each([
  ['null', null],
  ['an empty object', {}],
  ['all null', { entrypoint: null, cmd: null, env: null, workingDir: null, layers: null }],
  ['all empty', { entrypoint: [], env: [], workingDir: '', user: '', labels: {}, layers: [] }],
])('takes a config that is %s for none', (_name, config) => {
  expect(parseConfig(config)).toBeUndefined();
});

test('keeps every field of a config, ports with their protocol and platforms normalised', () => {
  const config = {
    entrypoint: ['/bin/sh', '-c', ''],
    cmd: ['true'],
    env: ['A=b=c', 'EMPTY='],
    workingDir: '/work',
    user: '1000:1000',
    labels: { empty: '' },
    annotations: { a: 'b' },
  };
  const layer = { location: 'data:aGk=', gzipDigest: digest, gzipSize: 2, tarDigest: digest, skipHashing: true };
  const mediaType = 'application/vnd.oci.image.layer.v1.tar+gzip';
  const layers = [{ ...layer, platforms: ['linux/aarch64'], mediaType }];
  expect(parseConfig({ ...config, exposedPorts: ['80', '53/udp'], layers })).toEqual({
    ...config,
    exposedPorts: ['80/tcp', '53/udp'],
    layers: [{ ...layer, platforms: ['linux/arm64'], mediaType }],
  });
});

test.each(['data:aGk=', 'http://h/l', 'https://h/l', 'docker://h/v2/i/blobs/d', 'oci://h/r@sha256:1'])(
  'takes a layer at %s',
  location => {
    expect(parseConfig({ layers: [{ location, gzipDigest: null }] })).toEqual({ layers: [{ location }] });
  },
);

const image = { containerImage: 'alpine' };
const withConfig = (containerConfig: unknown) => ({ ...image, containerConfig });
const withLayer = (layer: unknown) => withConfig({ layers: [layer] });

test.each<[string, unknown, string]>([
  ['a body that is no object', [], 'the body must be a JSON object'],
  ['no image', {}, 'exactly one of'],
  ['image and file', { ...image, containerFile: 'RlJPTQ==' }, 'containerImage and containerFile were given'],
  ['image and packages', { ...image, packages: { type: 'CONDA' } }, 'containerImage and packages were given'],
  ['a protocol prefix', { containerImage: 'docker://alpine' }, 'containerImage: an image name takes no protocol'],
  ['an image name out of grammar', { containerImage: 'Alpine' }, 'containerImage: invalid repository name'],
  ['an image that is a number', { containerImage: 1 }, 'containerImage: '],
  ['an unknown platform', { ...image, containerPlatform: 'a/b/c/d' }, 'containerPlatform: "a/b/c/d"'],
  ['an enum in another case', { ...image, scanMode: 'NONE' }, 'scanMode: '],
  ['too many includes', { ...image, containerIncludes: ['a', 'b', 'c'] }, 'has 3 items, over the limit of 2'],
  ['an include out of grammar', { ...image, containerIncludes: ['a', 'B'] }, 'containerIncludes[1]: '],
  ['env without "="', withConfig({ env: ['A=b', 'A'] }), 'containerConfig.env[1]: must be KEY=VALUE'],
  ['env without a key', withConfig({ env: ['=b'] }), 'containerConfig.env[0]: must be KEY=VALUE'],
  ['env that no map of ours holds', withConfig({ env: ['__proto__=b'] }), 'containerConfig.env[0]: '],
  ['env with NUL', withConfig({ env: ['A=\0'] }), 'containerConfig.env[0]: must not contain a NUL'],
  ['a long user', withConfig({ user: 'u'.repeat(257) }), 'containerConfig.user: must have at most 256'],
  ['a long workingDir', withConfig({ workingDir: '/'.repeat(4097) }), 'containerConfig.workingDir: must have at most'],
  ['port 0', withConfig({ exposedPorts: ['0/tcp'] }), 'containerConfig.exposedPorts[0]: '],
  ['port 65536', withConfig({ exposedPorts: ['65536'] }), 'containerConfig.exposedPorts[0]: '],
  ['an unknown protocol', withConfig({ exposedPorts: ['80/icmp'] }), 'containerConfig.exposedPorts[0]: '],
  ['a layer without location', withLayer({ location: null }), 'containerConfig.layers[0].location: must be given'],
  ['a location of another scheme', withLayer({ location: 'file:///etc/passwd' }), 'layers[0].location: must be data:'],
  ['a location that is no address', withLayer({ location: 'http://[/x' }), 'layers[0].location: must be data:'],
  ['a long location', withLayer({ location: `data:${'A'.repeat(36)}` }), 'has 41 characters, over the limit of 40'],
  ['a gzipDigest that is none', withLayer({ location: 'data:a', gzipDigest: 'x' }), 'layers[0].gzipDigest: must be'],
  ['a negative gzipSize', withLayer({ location: 'data:a', gzipSize: -1 }), 'layers[0].gzipSize: '],
  ['an unknown layer platform', withLayer({ location: 'data:a', platforms: ['a b'] }), 'layers[0].platforms[0]: "a b"'],
  ['a mediaType of no layer', withLayer({ location: 'data:a', mediaType: 'text/plain' }), 'layers[0].mediaType: must'],
])('refuses %s with 400 and the field', (_name, body, message) => {
  expect(faultOf(body)).toEqual({ status: 400, message: expect.stringContaining(message) });
});

test.each<[string, unknown]>([
  ['containerFile', { containerFile: 'RlJPTQ==' }],
  ['condaFile', { condaFile: 'Zm9v' }],
  ['packages', { packages: { type: 'CONDA', entries: ['a'] } }],
  ['freeze', { ...image, freeze: true }],
  ['mirror', { ...image, mirror: true }],
  ['format "sif"', { ...image, format: 'sif' }],
  ['scanMode "async"', { ...image, scanMode: 'async' }],
  ['scanMode "required"', { ...image, scanMode: 'required' }],
])('answers 501 to %s', (what, body) => {
  expect(faultOf(body)).toEqual({ status: 501, message: `${what} is not available in this version` });
});

const text = fc.oneof(fc.string(), fc.constantFrom('alpine', 'a=b', 'constructor', '__proto__', '80/tcp', 'data:aGk='));
const value = fc.oneof(text, fc.array(text), fc.jsonValue());
const fields = (...names: readonly string[]) =>
  fc.record(Object.fromEntries(names.map(name => [name, value])), { requiredKeys: [] });
const layer = fields('location', 'gzipDigest', 'gzipSize', 'platforms', 'mediaType');
const config = fc
  .tuple(fields('entrypoint', 'env', 'user', 'labels', 'exposedPorts', 'annotations', 'layers'), fc.array(layer))
  .map(([some, layers]) => (layers.length > 0 ? { ...some, layers } : some));
const body = fc
  .tuple(fields('containerImage', 'containerPlatform', 'containerIncludes', 'packages', 'format'), config, fc.boolean())
  .map(([some, containerConfig, isNamed]) => ({ ...some, containerConfig, ...(isNamed && image) }));

test('throws nothing but ApiError, whatever the JSON', () => {
  const property = fc.property(fc.oneof(body, fc.jsonValue()), json => {
    try {
      parse(json);
    } catch (error) {
      expect(error).toBeInstanceOf(ApiError);
    }
  });
  fc.assert(property, { numRuns: 1000 });
});
