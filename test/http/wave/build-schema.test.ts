// The build part of submit requests: what it means, and which field a refusal names.
import { describe, expect, test } from 'vitest';
import { createParseSubmit } from '../../../src/http/wave/submit-schema.ts';
import { ApiError } from '../../../src/submit/errors.ts';

const limits = { maxLocationCharacters: 40, maxIncludes: 2, maxContainerFileCharacters: 1000 };
const parse = createParseSubmit(limits);
const base64 = (text: string) => Buffer.from(text).toString('base64');
const file = { containerFile: base64('FROM scratch') };
const image = { containerImage: 'alpine' };

function faultOf(body: object): string {
  try {
    parse(body);
  } catch (error) {
    if (error instanceof ApiError && error.status === 400) return error.message;
    throw error;
  }
  throw new Error('parsed');
}

describe('a source', () => {
  test.each<[string, object, object]>([
    ['a Containerfile', file, { kind: 'file', containerFile: 'FROM scratch' }],
    [
      'one without padding and with line breaks',
      { containerFile: base64('FROM a').replace(/=+$/, '').replace(/^.{4}/, '$&\n') },
      { kind: 'file', containerFile: 'FROM a' },
    ],
    [
      'packages',
      {
        packages: {
          type: 'CONDA',
          entries: ['salmon'],
          channels: null,
          condaOpts: { baseImage: 'b', mambaImage: null },
        },
      },
      { kind: 'packages', packages: { type: 'CONDA', entries: ['salmon'], condaOpts: { baseImage: 'b' } } },
    ],
    [
      'the file of an environment, as the first version of the API has it',
      { condaFile: base64('name: x') },
      { kind: 'packages', packages: { type: 'CONDA', environment: base64('name: x') } },
    ],
  ])('is %s', (_, body, source) => {
    expect(parse(body).source).toEqual(source);
  });
});

describe('a build context', () => {
  const location = 'data:aGk=';
  test.each<[string, object, object]>([
    ['a layer', { location }, { kind: 'layer', layer: { location } }],
    [
      'a layer with fields that are unset',
      { location, gzipDigest: null, gzipSize: null },
      { kind: 'layer', layer: { location } },
    ],
    ['a map of files', { 'file1.txt': 'content' }, { kind: 'files', files: { 'file1.txt': 'content' } }],
    ['a map with an empty file alone', { '.keep': '' }, { kind: 'files', files: { '.keep': '' } }],
    [
      'a map with a file of a layer’s field beside others',
      { location: 'Vienna', 'a.txt': 'a' },
      { kind: 'files', files: { location: 'Vienna', 'a.txt': 'a' } },
    ],
    [
      'a map with a file that has another field of a layer',
      { mediaType: 'x' },
      { kind: 'files', files: { mediaType: 'x' } },
    ],
  ])('is %s', (_, buildContext, expected) => {
    expect(parse({ ...file, buildContext }).build.buildContext).toEqual(expected);
  });
});

test('takes all that says how to build', () => {
  const build = {
    buildRepository: 'local/team',
    cacheRepository: 'local/cache',
    freeze: true,
    nameStrategy: 'imageSuffix',
    buildCompression: { mode: 'zstd', level: 3, force: true },
    buildTemplate: 'conda/pixi:v1',
    buildTag: 'v1',
    buildArgs: { A: 'b' },
    buildTarget: 'run',
    buildLabels: { a: 'b' },
    buildSecrets: ['npm'],
    buildSsh: ['default'],
    buildNetwork: 'none',
    buildAttestations: { sbom: true, provenance: 'max' },
  };
  expect(parse({ ...file, ...build, buildTimeout: '10m' }).build).toEqual({ ...build, buildTimeout: 600_000 });
});

test('keeps nothing of the request but how to build', () => {
  const { build } = parse({ ...file, towerAccessToken: 'secret', towerRefreshToken: 'secret', novelty: 'secret' });
  expect(build).toEqual({});
});

test.each<[string, object, string]>([
  ['a file that is no base64', { containerFile: 'FROM scratch!' }, 'containerFile: must be base64 of UTF-8 text'],
  ['a file that is no text', { containerFile: '/w==' }, 'containerFile: must be base64 of UTF-8 text'],
  ['a context that is a list', { ...file, buildContext: ['a'] }, 'buildContext: must be an object'],
  ['a context of a number', { ...file, buildContext: { a: 1 } }, 'buildContext.a: must be the text of a file'],
  ['a context at no place', { ...file, buildContext: { location: 'Vienna' } }, 'buildContext.location: must be data:'],
  [
    'a context that is too long',
    { ...file, buildContext: { location: `data:${'a'.repeat(40)}` } },
    'buildContext.location: has 45 characters, over the limit of 40',
  ],
  ['a tag out of grammar', { ...file, buildTag: '-x' }, 'buildTag: must be a tag'],
  ['a time that is none', { ...file, buildTimeout: '10 minutes' }, 'buildTimeout: must be a duration such as 90s'],
  ['no time', { ...file, buildTimeout: '0m' }, 'buildTimeout: must be a duration'],
  ['another compression', { ...file, buildCompression: { mode: 'lzma' } }, 'buildCompression.mode: Invalid option'],
  ['another level', { ...file, buildCompression: { mode: 'gzip', level: 99 } }, 'buildCompression.level: Too big'],
  ['an argument that is no text', { ...file, buildArgs: { A: 1 } }, 'buildArgs.A: Invalid input: expected string'],
  ['another type of packages', { packages: { type: 'NPM', entries: ['a'] } }, 'packages.type: Invalid option'],
  ['a mirror of a build', { ...file, mirror: true }, 'mirror: copies an image as it is'],
  ['a mirror with changes', { ...image, mirror: true, containerConfig: { env: ['A=b'] } }, 'mirror: copies an image'],
  ['a mirror with includes', { ...image, mirror: true, containerIncludes: ['b'] }, 'mirror: copies an image as it is'],
  ['a file and packages', { ...file, packages: { type: 'CRAN' } }, 'containerFile and packages were given'],
])('refuses %s', (_, body, message) => {
  expect(faultOf(body)).toContain(message);
});

test.each([
  ['of padding that is none', `${'='.repeat(900_000)}x`],
  ['of spaces', `${' '.repeat(900_000)}x`],
])(
  'refuses a file of a long run %s without delay',
  (_, containerFile) => {
    expect(() => createParseSubmit({ ...limits, maxContainerFileCharacters: 1_000_000 })({ containerFile })).toThrow(
      ApiError,
    );
  },
  2000,
);
