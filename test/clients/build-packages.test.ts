// What is generated for packages, built by a real BuildKit from images whose tools only write down what they are asked.
import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPlanPackages, type PackagesPlan } from '../../src/builds/packages/plan-packages.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { buildImage } from './support/image.ts';
import { run } from './support/process.ts';

const planPackages = createPlanPackages();
const missing = findMissing(ENVIRONMENT_COMMANDS);

/** Each leaves what it was asked in the environment that it makes, with the files that it was pointed to. */
const TOOLS = {
  micromamba: `mkdir -p /opt/conda/bin
echo "micromamba $*" >> /opt/conda/asked
while [ $# -gt 0 ]; do [ "$1" = --file ] && [ -f "$2" ] && cat "$2" >> /opt/conda/asked; shift; done
exit 0`,
  pixi: `mkdir -p .pixi/envs/default/bin
echo "pixi $*" >> .pixi/envs/default/asked
echo lock > pixi.lock
[ "$1" = init ] && cat "$3" >> .pixi/envs/default/asked
[ "$1" = shell-hook ] && echo 'export ACTIVE=yes'
exit 0`,
  Rscript: 'echo "Rscript $*" >> /asked; cat "$1" >> /asked',
  'apt-get': 'echo "apt-get $*" >> /asked',
  make: 'echo "make $*" >> /asked',
} as const;

const CONDA = {
  type: 'CONDA',
  entries: ['bioconda::salmon=1.6.0'],
  channels: ['bioconda', 'https://example.com/it_s'],
};

describe.skipIf(missing)(`packages${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let tools: string;

  beforeAll(async () => {
    environment = await createEnvironment();
    tools = `${environment.registry}/library/tools:1`;
    await buildTools(environment, tools);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('of conda/micromamba:v1 are installed as asked', async () => {
    const condaOpts = { mambaImage: tools, commands: ['RUN make "it all"'] };
    const { files, context } = await build(await planPackages({ ...CONDA, condaOpts }, 'conda/micromamba:v1'));
    expect(await files('opt/conda/asked')).toBe(`micromamba install --yes --name base --file /tmp/conda.yml
${context['conda.yml']}micromamba install --yes --name base conda-forge::procps-ng
micromamba env export --name base --explicit
micromamba clean --all --yes
`);
    expect(await files('asked')).toBe('make it all\n');
    expect(await files.list('tmp')).toEqual([]);
  });

  test('of conda/micromamba:v2 leave nothing but the environment on the base', async () => {
    const condaOpts = { mambaImage: tools, baseImage: environment.source, basePackages: 'a>=1 b' };
    const { files, context } = await build(await planPackages({ ...CONDA, condaOpts }, 'conda/micromamba:v2'));
    expect(await files('opt/conda/asked')).toBe(`micromamba install --yes --name base --file /tmp/conda.yml
${context['conda.yml']}micromamba install --yes --name base a>=1 b
micromamba env export --name base --explicit
micromamba clean --all --yes
`);
    expect(await files.list('bin')).toEqual(['busybox', 'sh']);
  });

  test('of conda/pixi:v1 are activated by the entrypoint', async () => {
    const pixiOpts = { pixiImage: tools, baseImage: environment.source };
    const { files, context } = await build(await planPackages({ ...CONDA, pixiOpts }, 'conda/pixi:v1'));
    expect(await files('opt/pixi/.pixi/envs/default/asked')).toBe(`pixi init --import /tmp/conda.yml
${context['conda.yml']}pixi add conda-forge::procps-ng
pixi install
pixi shell-hook --shell bash
`);
    expect(await files('shell-hook.sh')).toBe('export ACTIVE=yes\nexec "$@"\n');
    expect(await files.list('bin')).toEqual(['busybox', 'sh']);
  });

  test('of cran/installr:v1 are installed by the script', async () => {
    const cranOpts = { rImage: tools, basePackages: 'littler r-cran-docopt' };
    const packages = { type: 'CRAN', entries: ['dplyr', 'bioc::DESeq2'], cranOpts };
    const { files, context } = await build(await planPackages(packages));
    expect(await files('asked')).toBe(`apt-get update
apt-get install --yes --no-install-recommends littler r-cran-docopt
Rscript /tmp/install.R
${context['install.R']}`);
    expect(await files.list('tmp')).toEqual([]);
  });

  test('of a lock at an address are installed without a context', async () => {
    const entries = ['https://example.com/a;b&c$(d)#e/conda-lock.yml'];
    const condaOpts = { mambaImage: tools, baseImage: environment.source };
    const { files } = await build(await planPackages({ type: 'CONDA', entries, condaOpts }));
    expect((await files('opt/conda/asked')).split('\n')[0]).toBe(
      `micromamba install --yes --name base --file ${entries[0]}`,
    );
  });

  test('of a lock of renv are restored from it', async () => {
    const environment = Buffer.from('{"Packages": {}}').toString('base64');
    const { files } = await build(await planPackages({ type: 'CRAN', environment, cranOpts: { rImage: tools } }));
    expect(await files('asked')).toContain("renv::restore(lockfile = '/tmp/renv.lock'");
  });

  test('are checked by a linter that finds what is wrong', async () => {
    const context = await mkdtemp(join(environment.folder, 'lint-'));
    await writeFile(join(context, 'Dockerfile'), `FROM ${tools} as build\nENV A $B\n`);
    const said = await lint(environment, context);
    expect(said).toContain('FromAsCasing');
    expect(said).toContain('UndefinedVar');
  });

  /** Builds for this machine, after the linter had nothing to say. */
  async function build({ containerFile, files }: PackagesPlan) {
    const folder = await mkdtemp(join(environment.folder, 'packages-'));
    const result = `${folder}-result`;
    await writeFile(join(folder, 'Dockerfile'), containerFile);
    for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text);
    expect(await lint(environment, folder)).toBe('');
    await buildctl(environment, folder, ['--output', `type=local,dest=${result}`]);
    const read = async (name: string) => await readFile(join(result, name), 'utf8');
    const list = async (name: string) => (await readdir(join(result, name)).catch(() => [])).sort();
    return { files: Object.assign(read, { list }), context: files };
  }
});

/** What BuildKit's own checks say of the Dockerfile in a folder; nothing where all is well. */
async function lint(environment: Environment, context: string): Promise<string> {
  return await buildctl(environment, context, ['--opt', 'requestid=frontend.lint']);
}

async function buildctl(environment: Environment, context: string, options: readonly string[]): Promise<string> {
  const locals = ['--local', `context=${context}`, '--local', `dockerfile=${context}`];
  const args = ['--addr', environment.buildkit, 'build', '--frontend', 'dockerfile.v0', ...locals, ...options];
  return await run(clientPath('buildctl'), args);
}

async function buildTools(environment: Environment, image: string): Promise<void> {
  const context = join(environment.folder, 'tools');
  await mkdir(context);
  for (const [name, script] of Object.entries(TOOLS)) {
    await writeFile(join(context, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }
  const lines = [
    `FROM ${environment.source}`,
    `COPY ${Object.keys(TOOLS).join(' ')} /bin/`,
    'RUN ["/bin/busybox", "--install", "-s", "/bin"]',
    'RUN mkdir -p /tmp /etc && echo root:x:0:0:root:/:/bin/sh > /etc/passwd',
    'ENV MAMBA_ROOT_PREFIX=/opt/conda MAMBA_USER=root',
  ];
  await writeFile(join(context, 'Dockerfile'), lines.join('\n'));
  await buildImage({ buildkit: environment.buildkit, context, image });
}
