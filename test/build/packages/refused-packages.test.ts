// Requests for packages that are refused: nothing in them gets out of its place.
import { describe, expect, test } from 'vitest';
import { InvalidBuild } from '../../../src/build/invalid-build.ts';
import { planPackages } from '../../../src/build/packages/plan-packages.ts';

const CONDA = { type: 'CONDA', entries: ['bioconda::salmon=1.6.0', 'samtools>=1.2,<2'] };
const YAML = 'channels:\n- bioconda\ndependencies:\n- fastqc=0.11\n';

describe('refuses', () => {
  const conda = { type: 'CONDA' };
  const cran = { type: 'CRAN' };

  test.each<{ what: string; packages: unknown; template?: string; says: RegExp }>([
    { what: 'no packages', packages: null, says: /^packages: / },
    { what: 'an unknown type', packages: { type: 'SPACK', entries: ['a'] }, says: /^packages\.type: / },
    { what: 'nothing to install', packages: { ...conda, entries: [] }, says: /exactly one of environment and entries/ },
    { what: 'both ways at once', packages: { ...CONDA, environment: base64(YAML) }, says: /exactly one/ },
    {
      what: 'an unknown template',
      packages: CONDA,
      template: 'conda/micromamba:v9',
      says: /^buildTemplate: "conda\/micromamba:v9".*conda\/micromamba:v1, conda\/micromamba:v2, conda\/pixi:v1$/,
    },
    {
      what: 'a template of another type',
      packages: CONDA,
      template: 'cran/installr:v1',
      says: /^buildTemplate: .*CONDA/,
    },
    {
      what: 'a template that objects inherit',
      packages: CONDA,
      template: 'constructor',
      says: /^buildTemplate: "constructor"/,
    },
    {
      what: 'no base64',
      packages: { ...conda, environment: 'not base64!' },
      says: /^packages\.environment: not base64/,
    },
    { what: 'no YAML', packages: { ...conda, environment: base64('a: [') }, says: /^packages\.environment: not YAML/ },
    { what: 'YAML without dependencies', packages: { ...conda, environment: base64('a: 1') }, says: /dependencies/ },
    {
      what: 'a bomb of aliases',
      packages: { ...conda, environment: base64(aliasBomb()) },
      says: /^packages\.environment: .*alias/,
    },
    {
      what: 'a lock for pixi',
      packages: { ...conda, environment: base64('@EXPLICIT\nhttps://a/b') },
      template: 'conda/pixi:v1',
      says: /conda\/pixi:v1/,
    },
    {
      what: 'a URL with credentials',
      packages: { ...conda, entries: ['https://me:secret@example.com/x'] },
      says: /^packages\.entries\[0\]: /,
    },
    {
      what: 'a URL for R',
      packages: { ...cran, environment: 'https://example.com/renv.lock' },
      says: /^packages\.environment: /,
    },
    {
      what: 'a version of Bioconductor',
      packages: { ...cran, entries: ['bioc::DESeq2==1'] },
      says: /^packages\.entries\[0\]/,
    },
    {
      what: 'too many entries',
      packages: { ...conda, entries: Array.from({ length: 501 }, () => 'a') },
      says: /^packages\.entries: /,
    },
  ])('$what', ({ packages, template, says }) => {
    expect(refusal(packages, template)).toMatch(says);
  });

  const injections = [
    "a'; rm -rf / #",
    'a && b',
    'a$(b)',
    'a`b`',
    'a\nRUN b',
    'a\u2028b',
    '--channel=evil',
    '-f/etc/passwd',
    'a;b',
    'a|b',
    '',
  ];

  test.each(injections)('the entry %j', entry => {
    expect(refusal({ ...conda, entries: [entry] })).toMatch(/^packages\.entries/);
    expect(refusal({ ...cran, entries: [entry] })).toMatch(/^packages\.entries/);
  });

  test.each(injections)('the channel %j', channel => {
    expect(refusal({ ...CONDA, channels: [channel] })).toMatch(/^packages\.channels/);
    expect(refusal({ ...cran, entries: ['a'], channels: [channel] })).toMatch(/^packages\.channels/);
  });

  test.each(injections.filter(text => text !== ''))('the image %j', image => {
    expect(refusal({ ...CONDA, condaOpts: { mambaImage: image } })).toMatch(/^packages\.condaOpts\.mambaImage: /);
    const v2 = { ...CONDA, condaOpts: { baseImage: image } };
    expect(refusal(v2, 'conda/micromamba:v2')).toMatch(/^packages\.condaOpts\.baseImage: /);
    const pixi = { ...CONDA, pixiOpts: { baseImage: image } };
    expect(refusal(pixi, 'conda/pixi:v1')).toMatch(/^packages\.pixiOpts\.baseImage: /);
    expect(refusal({ ...CONDA, pixiOpts: { pixiImage: image } }, 'conda/pixi:v1')).toMatch(/\.pixiImage: /);
    expect(refusal({ ...cran, entries: ['a'], cranOpts: { rImage: image } })).toMatch(/^packages\.cranOpts\.rImage: /);
  });

  test.each(["a'b", 'a$(b)', 'a`b`', '--x', '-x', 'a;b', 'a|b'])('the base package %j', name => {
    expect(refusal({ ...CONDA, condaOpts: { basePackages: name } })).toMatch(/^packages\.condaOpts\.basePackages: /);
    const pixi = { ...CONDA, pixiOpts: { basePackages: name } };
    expect(refusal(pixi, 'conda/pixi:v1')).toMatch(/^packages\.pixiOpts\.basePackages: /);
    expect(refusal({ ...cran, entries: ['a'], cranOpts: { basePackages: name } })).toMatch(/\.basePackages: /);
  });

  test.each(['FROM evil', 'make', '# escape=`', 'RUN a\nFROM b', 'RUN a \\', 'RUN', ''])('the command %j', command => {
    expect(refusal({ ...CONDA, condaOpts: { commands: [command] } })).toMatch(/^packages\.condaOpts\.commands/);
  });
});

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function refusal(packages: unknown, template?: string): string {
  try {
    planPackages(packages, template);
  } catch (error) {
    if (error instanceof InvalidBuild) return error.message;
    throw error;
  }
  throw new Error('it was not refused');
}

function aliasBomb(): string {
  const levels = Array.from({ length: 12 }, (_, i) => `l${i + 1}: &l${i + 1} [${`*l${i},`.repeat(9)}]`);
  return `l0: &l0 [x]\n${levels.join('\n')}\ndependencies: *l12`;
}

test.each([
  ['of faults', '"'.repeat(200_000)],
  ['of keys', Array.from({ length: 60_000 }, (_, at) => `k${at}: 1`).join('\n')],
])(
  'refuses an environment full %s without delay',
  (_, text) => {
    const environment = Buffer.from(text).toString('base64');
    expect(() => planPackages({ type: 'CONDA', environment })).toThrow(InvalidBuild);
  },
  4000,
);
