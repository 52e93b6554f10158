// Conda packages by micromamba: into the image of micromamba itself, or from there onto another image.
import { type CondaEnvironment, DEFAULT_BASE_PACKAGES, quoteSpecs } from './conda-environment.ts';
import type { Rendered } from './rendered.ts';
import type { PackagesRequest } from './request.ts';
import { quoteWord } from './shell-word.ts';
import { chain, checkCommands, checkImage } from './template.ts';

const DEFAULT_BASE = 'ubuntu:24.04';

/** One stage: the image has micromamba too. */
export function renderMicromambaV1(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  const { mambaImage = 'mambaorg/micromamba:1.5.10-noble', commands, basePackages } = request.condaOpts;
  const lines = [
    `FROM ${checkImage('condaOpts.mambaImage', mambaImage)}`,
    install(environment, basePackages ?? DEFAULT_BASE_PACKAGES),
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
    install(environment, basePackages ?? DEFAULT_BASE_PACKAGES),
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

/** The environment is printed to the build's log, so that it can be had again. */
function install(environment: CondaEnvironment, basePackages: readonly string[]): string {
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
