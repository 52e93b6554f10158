// Submit requests: what they mean, and which field a refusal names.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createParseSubmit } from '../../../src/http/wave/submit-schema.ts';
import { ApiError } from '../../../src/submit/errors.ts';

const limits = { maxLocationCharacters: 40, maxIncludes: 2, maxContainerFileCharacters: 60 };
const parse = createParseSubmit(limits);

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
    source: { kind: 'image', image: 'quay.io/org/app:1' },
    platforms: undefined,
    containerConfig: undefined,
    containerIncludes: [],
    scanLevels: [],
    dryRun: false,
    build: {},
    warnings: [],
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
  const body = { containerImage: 'alpine', freeze: false, mirror: false, scanMode: 'none', format: 'docker' };
  expect(parse(body)).toMatchObject({ source: { image: 'alpine' }, build: { freeze: false, mirror: false } });
});

test.each([7, '7'])('takes the workspace %j', towerWorkspaceId => {
  expect(parse({ containerImage: 'alpine', towerWorkspaceId }).towerWorkspaceId).toBe(7);
});

test('takes platforms as one string with commas', () => {
  expect(parse({ containerImage: 'alpine', containerPlatform: 'linux/amd64,arm64' }).platforms).toEqual([
    { os: 'linux', architecture: 'amd64' },
    { os: 'linux', architecture: 'arm64' },
  ]);
});

const image = { containerImage: 'alpine' };
test.each<[string, unknown, string]>([
  ['a list', [], 'the body must be a JSON object'],
  ['a string', 'alpine', 'the body must be a JSON object'],
  ['no image', {}, 'exactly one of containerImage, containerFile, condaFile and packages is needed: none was given'],
  ['image and file', { ...image, containerFile: 'RlJPTQ==' }, 'containerImage and containerFile were given'],
  ['image and packages', { ...image, packages: { type: 'CONDA' } }, 'containerImage and packages were given'],
  ['a protocol prefix', { containerImage: 'docker://alpine' }, 'containerImage: an image name takes no prefix'],
  ['an image name out of grammar', { containerImage: 'Alpine' }, 'containerImage: invalid repository name "Alpine"'],
  ['a long image name', { containerImage: 'a'.repeat(256) }, 'containerImage: invalid repository name'],
  ['an invalid tag', { containerImage: 'alpine:-' }, 'containerImage: invalid tag "-"'],
  ['an invalid digest', { containerImage: 'alpine@sha256:1' }, 'containerImage: not a digest: "sha256:1"'],
  ['an unknown platform', { ...image, containerPlatform: 'a/b/c/d' }, 'containerPlatform: "a/b/c/d" is not a platform'],
  ['an empty platform', { ...image, containerPlatform: 'amd64,,arm64' }, 'containerPlatform: "" is not a platform'],
  ['an enum in another case', { ...image, scanMode: 'NONE' }, 'scanMode: Invalid option: expected one of "none"|'],
  ['an unknown format', { ...image, format: 'SIF' }, 'format: Invalid option: expected one of "docker"|"sif"'],
  ['an unknown name strategy', { ...image, nameStrategy: 'x' }, 'nameStrategy: Invalid option: expected one of'],
  [
    'includes that are no list',
    { ...image, containerIncludes: 'a' },
    'containerIncludes: Invalid input: expected array',
  ],
  [
    'an include out of grammar',
    { ...image, containerIncludes: ['a', 'B'] },
    'containerIncludes[1]: invalid repository',
  ],
  [
    'an include with a protocol',
    { ...image, containerIncludes: ['x://a'] },
    'containerIncludes[0]: an image name takes',
  ],
  ['a config that is no object', { ...image, containerConfig: 'x' }, 'containerConfig: Invalid input: expected object'],
  [
    'a fault deep within',
    { ...image, containerConfig: { layers: [{ location: 'x:' }] } },
    'containerConfig.layers[0].location: must be data:',
  ],
  ['a workspace of words', { ...image, towerWorkspaceId: 'x' }, 'towerWorkspaceId: must be a whole number'],
  ['a negative workspace', { ...image, towerWorkspaceId: -1 }, 'towerWorkspaceId: must not be negative'],
])('refuses %s with 400 and the field', (_name, body, message) => {
  expect(faultOf(body)).toEqual({ status: 400, message: expect.stringContaining(message) });
});

test.each([
  ['containerImage', 1, 'string'],
  ['containerFile', 1, 'string'],
  ['condaFile', [1], 'string'],
  ['packages', 'x', 'object'],
  ['containerPlatform', ['amd64'], 'string'],
  ['towerAccessToken', 1, 'string'],
  ['towerRefreshToken', 1, 'string'],
  ['towerEndpoint', 1, 'string'],
  ['buildRepository', 1, 'string'],
  ['cacheRepository', 1, 'string'],
  ['timestamp', 1, 'string'],
  ['fingerprint', 1, 'string'],
  ['workflowId', 1, 'string'],
  ['freeze', 'true', 'boolean'],
  ['mirror', 1, 'boolean'],
  ['dryRun', 'no', 'boolean'],
])('refuses a %s of %j: it is a %s', (field, value, expected) => {
  const { status, message } = faultOf({ ...image, [field]: value });
  expect([status, message]).toEqual([400, expect.stringMatching(`^${field}: Invalid input: expected ${expected}`)]);
});

test.each([
  [{ containerFile: 'A'.repeat(64) }, 'containerFile: has 64 characters, over the limit of 60'],
  [{ containerIncludes: ['a', 'b', 'c'] }, 'containerIncludes: has 3 items, over the limit of 2'],
  [{ containerPlatform: 'a'.repeat(1025) }, 'containerPlatform: has 1025 characters, over the limit of 1024'],
  [{ fingerprint: 'a'.repeat(1025) }, 'fingerprint: has 1025 characters, over the limit of 1024'],
  [{ workflowId: 'a'.repeat(1025) }, 'workflowId: has 1025 characters, over the limit of 1024'],
])('names field, size and limit (case %#)', (fields, message) => {
  expect(faultOf({ ...image, ...fields })).toEqual({ status: 400, message });
});

test('reads format "sif", and takes "docker" for none', () => {
  expect(parse({ ...image, format: 'sif' }).build).toMatchObject({ format: 'sif' });
  expect(parse({ ...image, format: 'docker' }).build).not.toHaveProperty('format');
});

test.each(['async', 'required'])('reads scanMode "%s" with its levels', scanMode => {
  expect(parse({ ...image, scanMode, scanLevels: ['LOW'] })).toMatchObject({ scanMode, scanLevels: ['LOW'] });
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
