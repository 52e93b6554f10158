// Containerfiles that install conda packages: by micromamba, into its own image or from there onto another, and by pixi.
// Each prints the installed environment to the build's log, between two lines that findCondaLock looks for.
import type { LogEntry } from '../progress.ts';
import { InvalidBuild } from '../request.ts';
import { type CondaEnvironment, DEFAULT_BASE_PACKAGES, quoteSpecs } from './conda-environment.ts';
import type { PackagesRequest } from './request.ts';
import { chain, checkCommands, checkImage, quoteWord, type Rendered } from './request.ts';

const DEFAULT_BASE = 'ubuntu:24.04';

/** One stage: the image has micromamba too. */
export function renderMicromambaV1(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  const { mambaImage = 'mambaorg/micromamba:1.5.10-noble', commands, basePackages } = request.condaOpts;
  const lines = [
    `FROM ${checkImage('condaOpts.mambaImage', mambaImage)}`,
    installByMicromamba(environment, { basePackages }),
    'USER root',
    'ENV PATH="$MAMBA_ROOT_PREFIX/bin:$PATH"',
    ...checkCommands('condaOpts.commands', commands),
  ];
  return { containerFile: `${lines.join('\n')}\n`, files: filesOf(environment) };
}

/** Two stages: only the environment goes onto the base image. */
export function renderMicromambaV2(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  const { mambaImage = 'mambaorg/micromamba:2-amazon2023', baseImage = DEFAULT_BASE } = request.condaOpts;
  const { commands, basePackages } = request.condaOpts;
  const lines = [
    `FROM ${checkImage('condaOpts.mambaImage', mambaImage)} AS build`,
    LINK_WHICH,
    installByMicromamba(environment, { basePackages, assumesCuda: true }),
    '',
    `FROM ${checkImage('condaOpts.baseImage', baseImage)}`,
    'ENV MAMBA_ROOT_PREFIX="/opt/conda"',
    'COPY --from=build /opt/conda /opt/conda',
    'USER root',
    'ENV PATH="/opt/conda/bin:$PATH"',
    ...checkCommands('condaOpts.commands', commands),
  ];
  return { containerFile: `${lines.join('\n')}\n`, files: filesOf(environment) };
}

/** Install scripts of some packages call `which`, which the image of micromamba 2 lacks. */
const LINK_WHICH = [
  'USER root',
  'RUN command -v which >/dev/null || { printf \'#!/bin/sh\\ncommand -v "$@"\\n\' >/usr/local/bin/which && chmod 0755 /usr/local/bin/which; }',
  `USER \${MAMBA_USER:-root}`,
].join('\n');

/** The oldest CUDA version that current GPU packages support. */
const CUDA = '12.8';

interface MicromambaOptions {
  readonly basePackages: readonly string[] | undefined;
  /** Whether an environment that cannot be solved without a GPU is solved again as if there were one. */
  readonly assumesCuda?: boolean;
}

/** The environment is printed to the build's log, so that it can be reproduced. */
function installByMicromamba(
  environment: CondaEnvironment,
  { basePackages = DEFAULT_BASE_PACKAGES, assumesCuda = false }: MicromambaOptions,
): string {
  if (environment.kind === 'pixi-lock')
    throw new InvalidBuild('packages.environment: is a pixi.lock file; use buildTemplate conda/pixi-lock:v1');
  const isLocal = environment.kind !== 'url';
  const file = isLocal ? `/tmp/${environment.file}` : quoteWord(environment.url);
  const mount = isLocal ? ` --mount=type=bind,source=${environment.file},target=${file} \\\n   ` : '';
  const words = quoteSpecs('condaOpts.basePackages', basePackages);
  const install = `micromamba install --yes --name base --file ${file}`;
  const commands = [
    assumesCuda ? `{ ${install} || CONDA_OVERRIDE_CUDA=${CUDA} ${install}; }` : install,
    ...(words === '' ? [] : [`micromamba install --yes --name base ${words}`]),
    ...printLock('micromamba env export --name base --explicit'),
    'micromamba clean --all --yes',
  ];
  return `RUN${mount} ${chain(commands)}`;
}

const LOCK_BEGINS = '>> the conda lock file begins';
const LOCK_ENDS = '>> the conda lock file ends';

function printLock(command: string): readonly string[] {
  return [`echo '${LOCK_BEGINS}'`, command, `echo '${LOCK_ENDS}'`];
}

/**
 * The lock file that a build printed for a platform, or the first one if none is named; undefined if there is none, for example because the step
 * came from the builder's cache.
 */
export async function findCondaLock(
  entries: AsyncIterable<LogEntry>,
  platform: string | undefined,
): Promise<string | undefined> {
  const open = new Map<string | undefined, string[]>();
  for await (const { kind, text = '', platform: of } of entries) {
    if (kind !== 'output' || (platform !== undefined && of !== undefined && of !== platform)) continue;
    const lines = open.get(of);
    if (text.trim() === LOCK_BEGINS) open.set(of, []);
    else if (lines && text.trim() === LOCK_ENDS) return `${lines.join('\n')}\n`;
    else lines?.push(text);
  }
  return undefined;
}

function filesOf(environment: CondaEnvironment): Rendered['files'] {
  return environment.kind === 'url' ? {} : { [environment.file]: environment.text };
}

const DEFAULT_PIXI = 'ghcr.io/prefix-dev/pixi:0.61.0-noble';

/** Environments cannot be moved: their files contain their own path. */
const ENVIRONMENT = '/opt/pixi/.pixi/envs/default';

/** Two stages: only the environment goes onto the base image, whose entrypoint activates it. */
export function renderPixi(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  if (environment.kind !== 'yaml') {
    const other = environment.kind === 'pixi-lock' ? '; use buildTemplate conda/pixi-lock:v1' : '';
    throw new InvalidBuild(
      `packages.environment: conda/pixi:v1 takes YAML with a list of dependencies, not a lock file${other}`,
    );
  }
  const { basePackages = DEFAULT_BASE_PACKAGES } = request.pixiOpts;
  const words = quoteSpecs('pixiOpts.basePackages', basePackages);
  const install = [
    'pixi init --import /tmp/conda.yml',
    ...(words === '' ? [] : [`pixi add ${words}`]),
    'pixi install',
    ...activate(),
  ];
  const run = `RUN --mount=type=bind,source=conda.yml,target=/tmp/conda.yml \\\n    ${chain(install)}`;
  return { containerFile: stagesOfPixi(request, [run]), files: { [environment.file]: environment.text } };
}

/** The same, with exactly the packages of a pixi.lock file. */
export function renderPixiLock(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  const install = ['pixi init .', 'cp /tmp/pixi.lock pixi.lock', 'pixi install --frozen', ...activate()];
  if (environment.kind === 'url') {
    const lines = [`ADD ${environment.url} /tmp/pixi.lock`, `RUN ${chain(install)}`];
    return { containerFile: stagesOfPixi(request, lines), files: {} };
  }
  if (environment.kind !== 'pixi-lock')
    throw new InvalidBuild('packages.environment: conda/pixi-lock:v1 takes a pixi.lock file or its URL');
  const run = `RUN --mount=type=bind,source=pixi.lock,target=/tmp/pixi.lock \\\n    ${chain(install)}`;
  return { containerFile: stagesOfPixi(request, [run]), files: { [environment.file]: environment.text } };
}

function activate(): readonly string[] {
  return [
    'pixi shell-hook --shell bash > /shell-hook.sh',
    `echo 'exec "$@"' >> /shell-hook.sh`,
    ...printLock('cat pixi.lock'),
  ];
}

function stagesOfPixi({ pixiOpts }: PackagesRequest, install: readonly string[]): string {
  const { pixiImage = DEFAULT_PIXI, baseImage = DEFAULT_BASE, commands } = pixiOpts;
  const lines = [
    `FROM ${checkImage('pixiOpts.pixiImage', pixiImage)} AS build`,
    'WORKDIR /opt/pixi',
    ...install,
    '',
    `FROM ${checkImage('pixiOpts.baseImage', baseImage)}`,
    `COPY --from=build ${ENVIRONMENT} ${ENVIRONMENT}`,
    'COPY --from=build /shell-hook.sh /shell-hook.sh',
    'USER root',
    'ENV USER="root"',
    `ENV PATH="${ENVIRONMENT}/bin:$PATH"`,
    'ENTRYPOINT ["/bin/bash", "/shell-hook.sh"]',
    'CMD ["/bin/bash"]',
    ...checkCommands('pixiOpts.commands', commands),
  ];
  return `${lines.join('\n')}\n`;
}
