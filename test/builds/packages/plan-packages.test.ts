// What is generated for packages, pinned.
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { findBases } from '../../../src/builds/containerfile/bases.ts';
import { parseContainerFile } from '../../../src/builds/containerfile/parse.ts';
import { findCondaLock } from '../../../src/builds/packages/conda-templates.ts';
import { createPlanPackages } from '../../../src/builds/packages/plan-packages.ts';
import type { LogEntry } from '../../../src/builds/progress.ts';

const planPackages = createPlanPackages();

const CONDA = { type: 'CONDA', entries: ['bioconda::salmon=1.6.0', 'samtools>=1.2,<2'] };
const LOCK = 'version: 6\nenvironments: {}\npackages: []';
const PIXI_LOCK = { type: 'CONDA', environment: base64(LOCK) };
const YAML = 'channels:\n- bioconda\ndependencies:\n- fastqc=0.11\n';

describe('the generated Containerfile', () => {
  test('of conda/micromamba:v1 installs into the image of micromamba', async () => {
    const { containerFile, files } = await planPackages(
      { ...CONDA, channels: ['conda-forge', 'bioconda'] },
      'conda/micromamba:v1',
    );
    expect(containerFile).toBe(`FROM mambaorg/micromamba:1.5.10-noble
RUN --mount=type=bind,source=conda.yml,target=/tmp/conda.yml \\
    micromamba install --yes --name base --file /tmp/conda.yml \\
    && micromamba install --yes --name base 'conda-forge::procps-ng' \\
    && echo '>> the conda lock file begins' \\
    && micromamba env export --name base --explicit \\
    && echo '>> the conda lock file ends' \\
    && micromamba clean --all --yes
USER root
ENV PATH="$MAMBA_ROOT_PREFIX/bin:$PATH"
`);
    expect(files).toEqual({
      'conda.yml': `channels:
  - conda-forge
  - bioconda
dependencies:
  - bioconda::salmon=1.6.0
  - samtools>=1.2,<2
`,
    });
  });

  test('of conda/micromamba:v2 puts only the environment onto the base image', async () => {
    const condaOpts = { baseImage: 'debian:12', basePackages: '', commands: ['RUN make', 'USER app'] };
    const packages = { type: 'CONDA', environment: base64(YAML), condaOpts };
    const { containerFile, files } = await planPackages(packages, 'conda/micromamba:v2');
    expect(containerFile).toBe(`FROM mambaorg/micromamba:2-amazon2023 AS build
USER root
RUN command -v which >/dev/null || { printf '#!/bin/sh\\ncommand -v "$@"\\n' >/usr/local/bin/which && chmod 0755 /usr/local/bin/which; }
USER \${MAMBA_USER:-root}
RUN --mount=type=bind,source=conda.yml,target=/tmp/conda.yml \\
    { micromamba install --yes --name base --file /tmp/conda.yml || CONDA_OVERRIDE_CUDA=12.8 micromamba install --yes --name base --file /tmp/conda.yml; } \\
    && echo '>> the conda lock file begins' \\
    && micromamba env export --name base --explicit \\
    && echo '>> the conda lock file ends' \\
    && micromamba clean --all --yes

FROM debian:12
ENV MAMBA_ROOT_PREFIX="/opt/conda"
COPY --from=build /opt/conda /opt/conda
USER root
ENV PATH="/opt/conda/bin:$PATH"
RUN make
USER app
`);
    expect(files).toEqual({ 'conda.yml': YAML });
  });

  test('of conda/pixi:v1 activates the environment on the base image', async () => {
    const packages = { ...CONDA, pixiOpts: { pixiImage: 'pixi:1', basePackages: 'a b::c' } };
    expect((await planPackages(packages, 'conda/pixi:v1')).containerFile).toBe(`FROM pixi:1 AS build
WORKDIR /opt/pixi
RUN --mount=type=bind,source=conda.yml,target=/tmp/conda.yml \\
    pixi init --import /tmp/conda.yml \\
    && pixi add 'a' 'b::c' \\
    && pixi install \\
    && pixi shell-hook --shell bash > /shell-hook.sh \\
    && echo 'exec "$@"' >> /shell-hook.sh \\
    && echo '>> the conda lock file begins' \\
    && cat pixi.lock \\
    && echo '>> the conda lock file ends'

FROM ubuntu:24.04
COPY --from=build /opt/pixi/.pixi/envs/default /opt/pixi/.pixi/envs/default
COPY --from=build /shell-hook.sh /shell-hook.sh
USER root
ENV USER="root"
ENV PATH="/opt/pixi/.pixi/envs/default/bin:$PATH"
ENTRYPOINT ["/bin/bash", "/shell-hook.sh"]
CMD ["/bin/bash"]
`);
  });

  test('of cran/installr:v1 runs a script that fails where a package is missing', async () => {
    const { containerFile, files } = await planPackages({
      type: 'CRAN',
      entries: ['dplyr', 'ggplot2==3.5.1', 'bioc::DESeq2'],
      channels: ['cran', 'https://example.com/r'],
      cranOpts: { basePackages: 'littler r-cran-docopt' },
    });
    expect(containerFile).toBe(`FROM rocker/r-ver:4.4.1
USER root
RUN apt-get update \\
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends 'littler' 'r-cran-docopt' \\
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,source=install.R,target=/tmp/install.R \\
    Rscript /tmp/install.R \\
    && rm -rf /tmp/downloaded_packages /tmp/*.rds
ENV R_LIBS_USER="/usr/local/lib/R/site-library"
`);
    expect(files).toEqual({
      'install.R': `options(repos = c('https://cloud.r-project.org', 'https://example.com/r'))
need <- function(name) if (!requireNamespace(name, quietly = TRUE)) install.packages(name)
install.packages('dplyr')
need('remotes')
remotes::install_version('ggplot2', version = '3.5.1', upgrade = 'never')
need('BiocManager')
BiocManager::install('DESeq2', ask = FALSE, update = FALSE)
wanted <- c('dplyr', 'ggplot2', 'DESeq2')
absent <- setdiff(wanted, rownames(installed.packages()))
if (length(absent) > 0) stop('not installed: ', toString(absent))
`,
    });
  });

  test.each([
    [CONDA, 'conda/micromamba:v1', ['mambaorg/micromamba:1.5.10-noble']],
    [CONDA, 'conda/micromamba:v2', ['mambaorg/micromamba:2-amazon2023', 'ubuntu:24.04']],
    [CONDA, 'conda-micromamba/v1', ['mambaorg/micromamba:1.5.10-noble']],
    [CONDA, undefined, ['mambaorg/micromamba:2-amazon2023', 'ubuntu:24.04']],
    [CONDA, 'conda-pixi/v1', ['ghcr.io/prefix-dev/pixi:0.61.0-noble', 'ubuntu:24.04']],
    [PIXI_LOCK, 'conda/pixi-lock:v1', ['ghcr.io/prefix-dev/pixi:0.61.0-noble', 'ubuntu:24.04']],
    [CONDA, 'conda/pixi:v1', ['ghcr.io/prefix-dev/pixi:0.61.0-noble', 'ubuntu:24.04']],
    [{ type: 'CRAN', entries: ['dplyr'] }, 'cran/installr:v1', ['rocker/r-ver:4.4.1']],
  ])('is one that our own parser takes, from the default images', async (packages, template, images) => {
    const file = parseContainerFile((await planPackages(packages, template)).containerFile);
    const bases = findBases(file, { args: {}, stage: undefined, platforms: [{ os: 'linux', architecture: 'amd64' }] });
    expect(bases.map(({ reference }) => reference)).toEqual(images);
  });
});

test('a lock file of pixi is installed as it is', async () => {
  const { containerFile, files, record } = await planPackages(PIXI_LOCK, 'conda-pixi-lock/v1');
  expect(containerFile).toContain('RUN --mount=type=bind,source=pixi.lock,target=/tmp/pixi.lock');
  expect(containerFile).toContain('pixi install --frozen');
  expect(files).toEqual({ 'pixi.lock': `${LOCK}\n` });
  expect(record).toEqual({ template: 'conda/pixi-lock:v1', environment: `${LOCK}\n` });
});

test('a lock file of pixi may be at an address', async () => {
  const packages = { type: 'CONDA', entries: ['https://example.com/pixi.lock'] };
  const { containerFile } = await planPackages(packages, 'conda/pixi-lock:v1');
  expect(containerFile).toContain('ADD https://example.com/pixi.lock /tmp/pixi.lock\n');
});

test.each([
  ['a lock file of pixi', 'conda/micromamba:v2', 'use buildTemplate conda/pixi-lock:v1'],
  ['a lock file of pixi', 'conda/pixi:v1', 'use buildTemplate conda/pixi-lock:v1'],
])('%s is refused by %s, which names the template for it', async (_, template, message) => {
  await expect(planPackages(PIXI_LOCK, template)).rejects.toThrow(message);
});

describe('the lock file of a build', () => {
  const at = '2026-01-02T03:04:05.000Z';
  const line = (text: string, platform: string) => ({ at, kind: 'output', text, platform }) as const;
  const [begins, ends] = ['>> the conda lock file begins', '>> the conda lock file ends'];
  const entries = [
    line(begins, 'linux/amd64'),
    line(begins, 'linux/arm64'),
    line('@EXPLICIT', 'linux/amd64'),
    line('@EXPLICIT arm', 'linux/arm64'),
    { at, kind: 'step', text: 'noise', platform: 'linux/amd64' } as const,
    line(ends, 'linux/amd64'),
    line(ends, 'linux/arm64'),
  ];
  async function* logged(all: readonly LogEntry[]) {
    yield* all;
  }

  test('is what it has printed for its first platform, or for one', async () => {
    expect(await findCondaLock(logged(entries), undefined)).toBe('@EXPLICIT\n');
    expect(await findCondaLock(logged(entries), 'linux/arm64')).toBe('@EXPLICIT arm\n');
  });

  test('is none where it was not printed to its end', async () => {
    expect(await findCondaLock(logged(entries.slice(0, 4)), undefined)).toBeUndefined();
  });
});

describe('an environment', () => {
  test('gets the channels that are asked for beside its own', async () => {
    const packages = { type: 'CONDA', environment: base64(YAML), channels: ['conda-forge', 'bioconda'] };
    expect(parse((await planPackages(packages)).files['conda.yml'] ?? '')).toEqual({
      channels: ['bioconda', 'conda-forge'],
      dependencies: ['fastqc=0.11'],
    });
  });

  test('of pip packages lists them as conda does', async () => {
    const { files } = await planPackages({ type: 'CONDA', entries: ['python=3.12', 'pip:numpy==1.26', 'pip:six'] });
    expect(parse(files['conda.yml'] ?? '')).toEqual({
      channels: ['conda-forge', 'bioconda'],
      dependencies: ['python=3.12', 'pip', { pip: ['numpy==1.26', 'six'] }],
    });
  });

  test.each([
    { lock: 'an explicit one', text: '@EXPLICIT\nhttps://conda.anaconda.org/x.conda', file: 'conda-lock.txt' },
    { lock: 'one of conda-lock', text: 'version: 1\nmetadata: {}\npackage: []', file: 'conda-lock.yml' },
  ])('may be a lock file: $lock', async ({ text, file }) => {
    const { containerFile, files, names } = await planPackages({ type: 'CONDA', environment: base64(text) });
    expect(containerFile).toContain(`--mount=type=bind,source=${file},target=/tmp/${file} `);
    expect(containerFile).toContain(`--file /tmp/${file} `);
    expect(files).toEqual({ [file]: `${text}\n` });
    expect(names.tagPrefix).toBeUndefined();
  });

  test.each([
    { where: 'entries', packages: { entries: ['https://example.com/conda-lock.yml'] } },
    { where: 'environment', packages: { environment: 'https://example.com/conda-lock.yml' } },
    { where: 'environment, in base64', packages: { environment: base64('https://example.com/conda-lock.yml\n') } },
  ])('may be the URL of a lock file, in $where', async ({ packages }) => {
    const { containerFile, files } = await planPackages({ type: 'CONDA', ...packages });
    expect(containerFile).toContain(
      "micromamba install --yes --name base --file 'https://example.com/conda-lock.yml' ",
    );
    expect(files).toEqual({});
  });

  test('of R is a lock of renv, or a script', async () => {
    const lock = '{"R": {}, "Packages": {}}';
    const restored = await planPackages({ type: 'CRAN', environment: base64(lock) });
    expect(restored.files['renv.lock']).toBe(lock);
    expect(restored.files['install.R']).toContain("renv::restore(lockfile = '/tmp/renv.lock'");
    expect(restored.containerFile).toContain('--mount=type=bind,source=renv.lock,target=/tmp/renv.lock ');
    expect((await planPackages({ type: 'CRAN', environment: base64('x <- 1') })).files).toEqual({
      'install.R': 'x <- 1',
    });
  });
});

describe('names', () => {
  test.each([
    { entries: ['bioconda::salmon=1.6.0'], tagPrefix: 'salmon-1.6.0', imageSuffix: 'salmon', version: '1.6.0' },
    {
      entries: ['salmon=1.6.0', 'fastqc=0.11'],
      tagPrefix: 'salmon-1.6.0_fastqc-0.11',
      imageSuffix: 'salmon_fastqc',
      version: undefined,
    },
    {
      entries: ['bwa>0.1', 'bwa>0.1', 'pip:six'],
      tagPrefix: 'bwa-0.1_six',
      imageSuffix: 'bwa_six',
      version: undefined,
    },
    {
      entries: ['_libgcc_mutex', 'libstdc++', 'R-Base'],
      tagPrefix: 'libgcc_mutex_libstdc_R-Base',
      imageSuffix: 'libgcc_mutex_libstdc_r-base',
      version: undefined,
    },
    { entries: ["python[version='>=3']"], tagPrefix: 'python', imageSuffix: 'python', version: undefined },
    { entries: ['x'.repeat(100)], tagPrefix: 'x'.repeat(80), imageSuffix: 'x'.repeat(80), version: undefined },
    {
      entries: ['a'.repeat(50), 'b'.repeat(50)],
      tagPrefix: 'a'.repeat(50),
      imageSuffix: 'a'.repeat(50),
      version: undefined,
    },
    { entries: ['https://example.com/lock.yml'], tagPrefix: undefined, imageSuffix: undefined, version: undefined },
  ])('of $entries', async ({ entries, ...names }) => {
    expect((await planPackages({ type: 'CONDA', entries })).names).toEqual(names);
  });

  test('of an environment are its own, else those of its dependencies', async () => {
    const names = async (yaml: string) =>
      (await planPackages({ type: 'CONDA', environment: base64(yaml) })).names.tagPrefix;
    expect(await names(YAML)).toBe('fastqc-0.11');
    expect(await names(`name: RNA Seq!\n${YAML}`)).toBe('RNASeq');
    expect(await names(`name: '../..'\n${YAML}`)).toBeUndefined();
    expect(await names('dependencies:\n- pip\n- pip: [six==1]')).toBe('pip_six-1');
  });

  test('fit the grammar of tags and repositories', async () => {
    const odd = ['a--b', 'a._.b', 'A.B', '__a__', 'a..b', 'a-', 'a=1.0.*', 'a=1!2', 'a==1.0+local', 'a-_.b'];
    const { tagPrefix = '', imageSuffix = '' } = (await planPackages({ type: 'CONDA', entries: odd })).names;
    expect(tagPrefix).toMatch(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,79}$/);
    expect(imageSuffix).toMatch(/^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/);
  });
});

test('takes the nulls of clients for what is not there', async () => {
  const nothing = { commands: null, basePackages: null, mambaImage: null, baseImage: null };
  const packages = {
    ...CONDA,
    environment: null,
    channels: null,
    condaOpts: nothing,
    pixiOpts: null,
    cranOpts: null,
    other: 1,
  };
  expect(await planPackages(packages)).toEqual(await planPackages(CONDA));
});

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
