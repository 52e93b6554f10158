// Requests for packages that are refused: nothing in them gets out of its place.
import { Worker } from 'node:worker_threads';
import { describe, expect, test, vi } from 'vitest';
import { createReadEnvironment } from '../../../src/builds/packages/conda-environment.ts';
import { createPlanPackages } from '../../../src/builds/packages/plan-packages.ts';
import { InvalidBuild } from '../../../src/builds/request.ts';
import { measureLongestHoldMs } from '../../support/thread-time.ts';

const planPackages = createPlanPackages();

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
      says: /^buildTemplate: "conda\/micromamba:v9".*conda\/micromamba:v1, conda\/micromamba:v2, conda\/pixi:v1, conda\/pixi-lock:v1$/,
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
  ])('$what', async ({ packages, template, says }) => {
    expect(await refusal(packages, template)).toMatch(says);
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

  test.each(injections)('the entry %j', async entry => {
    expect(await refusal({ ...conda, entries: [entry] })).toMatch(/^packages\.entries/);
    expect(await refusal({ ...cran, entries: [entry] })).toMatch(/^packages\.entries/);
  });

  test.each(injections)('the channel %j', async channel => {
    expect(await refusal({ ...CONDA, channels: [channel] })).toMatch(/^packages\.channels/);
    expect(await refusal({ ...cran, entries: ['a'], channels: [channel] })).toMatch(/^packages\.channels/);
  });

  test.each(injections.filter(text => text !== ''))('the image %j', async image => {
    expect(await refusal({ ...CONDA, condaOpts: { mambaImage: image } })).toMatch(/^packages\.condaOpts\.mambaImage: /);
    const v2 = { ...CONDA, condaOpts: { baseImage: image } };
    expect(await refusal(v2, 'conda/micromamba:v2')).toMatch(/^packages\.condaOpts\.baseImage: /);
    const pixi = { ...CONDA, pixiOpts: { baseImage: image } };
    expect(await refusal(pixi, 'conda/pixi:v1')).toMatch(/^packages\.pixiOpts\.baseImage: /);
    expect(await refusal({ ...CONDA, pixiOpts: { pixiImage: image } }, 'conda/pixi:v1')).toMatch(/\.pixiImage: /);
    expect(await refusal({ ...cran, entries: ['a'], cranOpts: { rImage: image } })).toMatch(
      /^packages\.cranOpts\.rImage: /,
    );
  });

  test.each(["a'b", 'a$(b)', 'a`b`', '--x', '-x', 'a;b', 'a|b'])('the base package %j', async name => {
    expect(await refusal({ ...CONDA, condaOpts: { basePackages: name } })).toMatch(
      /^packages\.condaOpts\.basePackages: /,
    );
    const pixi = { ...CONDA, pixiOpts: { basePackages: name } };
    expect(await refusal(pixi, 'conda/pixi:v1')).toMatch(/^packages\.pixiOpts\.basePackages: /);
    expect(await refusal({ ...cran, entries: ['a'], cranOpts: { basePackages: name } })).toMatch(/\.basePackages: /);
  });

  test.each(['FROM evil', 'make', '# escape=`', 'RUN a\nFROM b', 'RUN a \\', 'RUN', ''])(
    'the command %j',
    async command => {
      expect(await refusal({ ...CONDA, condaOpts: { commands: [command] } })).toMatch(/^packages\.condaOpts\.commands/);
    },
  );
});

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

async function refusal(packages: unknown, template?: string): Promise<string> {
  try {
    await planPackages(packages, template);
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
  ['faults', '"'.repeat(200_000)],
  ['keys', Array.from({ length: 60_000 }, (_, at) => `k${at}: 1`).join('\n')],
  ['lists in lists', '- '.repeat(60_000)],
  ['open brackets', '['.repeat(60_000)],
  ['commas', `[${','.repeat(200_000)}]`],
  ['stars', '*'.repeat(780_000)],
  ['aliases', `a: &a 1\nb: [${'*a,'.repeat(60_000)}]`],
  ['anchors', '&a '.repeat(60_000)],
  ['questions', '? '.repeat(60_000)],
  ['exclamation marks', '! '.repeat(60_000)],
  ['documents', '---\n'.repeat(190_000)],
])('refuses an environment full of %s, and lets other work go on meanwhile', async (_, text) => {
  const environment = Buffer.from(text).toString('base64');
  const refuse = () => expect(planPackages({ type: 'CONDA', environment })).rejects.toThrow(InvalidBuild);
  // A thread of its own has the work, and what is left is far below its seconds.
  expect(await measureLongestHoldMs(refuse)).toBeLessThan(1000);
});

test('gives up on an environment that takes too long, or more memory than it may, and reads the next', async () => {
  const environment = Buffer.from(Array.from({ length: 60_000 }, (_, at) => `k${at}: 1`).join('\n')).toString('base64');
  for (const limits of [
    { timeoutMs: 1, heapMib: 128, maxWaiting: 1 },
    { timeoutMs: 30_000, heapMib: 40, maxWaiting: 1 },
  ]) {
    const plan = createPlanPackages(createReadEnvironment(limits));
    await expect(plan({ type: 'CONDA', environment })).rejects.toThrow('YAML that cannot be read within');
  }
  const plan = createPlanPackages(createReadEnvironment({ timeoutMs: 30_000, heapMib: 128, maxWaiting: 1 }));
  const question = { type: 'CONDA', environment: base64(YAML) };
  const [first, second, third] = await Promise.allSettled([plan(question), plan(question), plan(question)]);
  expect([first.status, second.status]).toEqual(['fulfilled', 'fulfilled']);
  expect(third).toMatchObject({ status: 'rejected', reason: { code: 'TOOMANYREQUESTS' } });
});

test('gives up on an environment whose thread breaks as it is ended', async () => {
  const { terminate } = Worker.prototype;
  const spy = vi.spyOn(Worker.prototype, 'terminate').mockImplementation(function (this: Worker) {
    this.emit('error', new Error('out of memory'));
    return terminate.call(this);
  });
  const plan = createPlanPackages(createReadEnvironment({ timeoutMs: 1, heapMib: 128, maxWaiting: 1 }));
  const given = plan({ type: 'CONDA', environment: base64(YAML) });
  await expect(given).rejects.toThrow('YAML that cannot be read within');
  spy.mockRestore();
});
