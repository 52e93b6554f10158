// Containerfiles that install conda packages: by micromamba, into its own image or from there onto another, and by pixi.
import { InvalidBuild } from '../request.ts';
import { type CondaEnvironment, DEFAULT_BASE_PACKAGES, quoteSpecs } from './conda-environment.ts';
import type { PackagesRequest } from './request.ts';
import { chain, checkCommands, checkImage, quoteWord, type Rendered } from './template.ts';

const DEFAULT_BASE = 'ubuntu:24.04';

/** One stage: the image has micromamba too. */
export function renderMicromambaV1(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  const { mambaImage = 'mambaorg/micromamba:1.5.10-noble', commands, basePackages } = request.condaOpts;
  const lines = [
    `FROM ${checkImage('condaOpts.mambaImage', mambaImage)}`,
    installByMicromamba(environment, basePackages ?? DEFAULT_BASE_PACKAGES),
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
    installByMicromamba(environment, basePackages ?? DEFAULT_BASE_PACKAGES),
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

/** The environment is printed to the build's log, so that it can be reproduced. */
function installByMicromamba(environment: CondaEnvironment, basePackages: readonly string[]): string {
  const isLocal = environment.kind !== 'url';
  const file = isLocal ? `/tmp/${environment.file}` : quoteWord(environment.url);
  const mount = isLocal ? ` --mount=type=bind,source=${environment.file},target=${file} \\\n   ` : '';
  const words = quoteSpecs('condaOpts.basePackages', basePackages);
  const commands = [
    `micromamba install --yes --name base --file ${file}`,
    ...(words === '' ? [] : [`micromamba install --yes --name base ${words}`]),
    'micromamba env export --name base --explicit',
    'micromamba clean --all --yes',
  ];
  return `RUN${mount} ${chain(commands)}`;
}

function filesOf(environment: CondaEnvironment): Rendered['files'] {
  return environment.kind === 'url' ? {} : { [environment.file]: environment.text };
}

const DEFAULT_PIXI = 'ghcr.io/prefix-dev/pixi:0.61.0-noble';

/** Environments cannot be moved: their files contain their own path. */
const ENVIRONMENT = '/opt/pixi/.pixi/envs/default';

/** Two stages: only the environment goes onto the base image, whose entrypoint activates it. */
export function renderPixi(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  const { pixiImage = DEFAULT_PIXI, baseImage = DEFAULT_BASE, basePackages, commands } = request.pixiOpts;
  if (environment.kind !== 'yaml') {
    throw new InvalidBuild(
      'packages.environment: conda/pixi:v1 takes YAML with a list of dependencies, not a lock file',
    );
  }
  const lines = [
    `FROM ${checkImage('pixiOpts.pixiImage', pixiImage)} AS build`,
    'WORKDIR /opt/pixi',
    `RUN --mount=type=bind,source=conda.yml,target=/tmp/conda.yml \\\n    ${chain(installByPixi(basePackages))}`,
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
  return { containerFile: `${lines.join('\n')}\n`, files: { [environment.file]: environment.text } };
}

function installByPixi(basePackages: readonly string[] = DEFAULT_BASE_PACKAGES): readonly string[] {
  const words = quoteSpecs('pixiOpts.basePackages', basePackages);
  return [
    'pixi init --import /tmp/conda.yml',
    ...(words === '' ? [] : [`pixi add ${words}`]),
    'pixi install',
    'pixi shell-hook --shell bash > /shell-hook.sh',
    `echo 'exec "$@"' >> /shell-hook.sh`,
    'cat pixi.lock',
  ];
}
