// Conda packages by pixi: only the environment goes onto the base image, whose entrypoint activates it.
import { InvalidBuild } from '../request.ts';
import { type CondaEnvironment, DEFAULT_BASE_PACKAGES, quoteSpecs } from './conda-environment.ts';
import type { Rendered } from './rendered.ts';
import type { PackagesRequest } from './request.ts';
import { chain, checkCommands, checkImage } from './template.ts';

const DEFAULT_PIXI = 'ghcr.io/prefix-dev/pixi:0.61.0-noble';
const DEFAULT_BASE = 'ubuntu:24.04';
/** Where an environment was made it has to stay: its files name their own path. */
const ENVIRONMENT = '/opt/pixi/.pixi/envs/default';

export function renderPixi(request: PackagesRequest, environment: CondaEnvironment): Rendered {
  const { pixiImage = DEFAULT_PIXI, baseImage = DEFAULT_BASE, basePackages, commands } = request.pixiOpts;
  if (environment.kind !== 'yaml') {
    throw new InvalidBuild('packages.environment: conda/pixi:v1 takes YAML with a list of dependencies, and no lock');
  }
  const lines = [
    `FROM ${checkImage('pixiOpts.pixiImage', pixiImage)} AS build`,
    'WORKDIR /opt/pixi',
    `RUN --mount=type=bind,source=conda.yml,target=/tmp/conda.yml \\\n    ${chain(install(basePackages))}`,
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

function install(basePackages: readonly string[] = DEFAULT_BASE_PACKAGES): readonly string[] {
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
