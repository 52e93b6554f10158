// Packages of an environment as a build: the Containerfile that installs them, the files that it needs, and what the image is called.
import { InvalidBuild } from '../invalid-build.ts';
import { condaEnvironment } from './conda-environment.ts';
import { renderCran } from './cran.ts';
import { renderMicromambaV1, renderMicromambaV2 } from './micromamba.ts';
import { NO_NAMES, namesOfEntries, namesOfEnvironment, type PackageNames } from './names.ts';
import { renderPixi } from './pixi.ts';
import type { Rendered } from './rendered.ts';
import { type PackagesRequest, parsePackages } from './request.ts';

export interface PackagesPlan extends Rendered {
  readonly names: PackageNames;
}

interface Template {
  readonly type: PackagesRequest['type'];
  readonly render: (request: PackagesRequest) => Rendered;
}

const TEMPLATES: ReadonlyMap<string, Template> = new Map([
  ['conda/micromamba:v1', { type: 'CONDA', render: renderMicromambaV1 }],
  ['conda/micromamba:v2', { type: 'CONDA', render: renderMicromambaV2 }],
  ['conda/pixi:v1', { type: 'CONDA', render: renderPixi }],
  ['cran/installr:v1', { type: 'CRAN', render: renderCran }],
]);

const DEFAULTS = { CONDA: 'conda/micromamba:v1', CRAN: 'cran/installr:v1' } as const;

/** `packages` is that of a request, as JSON was parsed; the type says the template where none is named. Throws InvalidBuild. */
export function planPackages(packages: unknown, buildTemplate?: string | undefined): PackagesPlan {
  const request = parsePackages(packages);
  const { render } = findTemplate(buildTemplate ?? DEFAULTS[request.type], request.type);
  return { ...render(request), names: namesFor(request) };
}

/** The same for the older `condaFile`: base64 of the YAML of an environment. Throws InvalidBuild. */
export function planCondaFile(condaFile: string, buildTemplate?: string | undefined): PackagesPlan {
  return planPackages({ type: 'CONDA', environment: condaFile }, buildTemplate);
}

function findTemplate(name: string, type: PackagesRequest['type']): Template {
  const template = TEMPLATES.get(name);
  if (template?.type === type) return template;
  const known = [...TEMPLATES].filter(([, { type: of }]) => of === type).map(([key]) => key);
  const what = `${JSON.stringify(name.slice(0, 80))} is no template for packages of type ${type}`;
  throw new InvalidBuild(`buildTemplate: ${what}; expected ${known.join(', ')}`);
}

function namesFor(request: PackagesRequest): PackageNames {
  if (request.environment === undefined) return namesOfEntries(request.entries);
  if (request.type === 'CRAN') return NO_NAMES;
  const environment = condaEnvironment(request);
  return environment.kind === 'yaml' ? namesOfEnvironment(environment.text) : NO_NAMES;
}
