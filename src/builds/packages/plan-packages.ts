// Turns packages into a build: the Containerfile that installs them, its files, and the name of the image.
import type { PackagesRecord } from '../record.ts';
import { InvalidBuild } from '../request.ts';
import {
  type CondaEnvironment,
  condaEnvironment,
  createReadEnvironment,
  type ReadEnvironment,
} from './conda-environment.ts';
import { renderMicromambaV1, renderMicromambaV2, renderPixi, renderPixiLock } from './conda-templates.ts';
import { renderCran } from './cran.ts';
import { NO_NAMES, namesOfEntries, type PackageNames } from './names.ts';
import { type PackagesRequest, parsePackages } from './request.ts';
import type { Rendered } from './template.ts';

export interface PackagesPlan extends Rendered {
  readonly names: PackageNames;
  readonly record: PackagesRecord;
}

type Template =
  | { readonly type: 'CONDA'; readonly render: (request: PackagesRequest, environment: CondaEnvironment) => Rendered }
  | { readonly type: 'CRAN'; readonly render: (request: PackagesRequest) => Rendered };

const TEMPLATES: ReadonlyMap<string, Template> = new Map<string, Template>([
  ['conda/micromamba:v1', { type: 'CONDA', render: renderMicromambaV1 }],
  ['conda/micromamba:v2', { type: 'CONDA', render: renderMicromambaV2 }],
  ['conda/pixi:v1', { type: 'CONDA', render: renderPixi }],
  ['conda/pixi-lock:v1', { type: 'CONDA', render: renderPixiLock }],
  ['cran/installr:v1', { type: 'CRAN', render: renderCran }],
]);

const DEFAULTS = { CONDA: 'conda/micromamba:v2', CRAN: 'cran/installr:v1' } as const;

/**
 * `packages` is that of a request, as parsed JSON; the type determines the default template. Throws InvalidBuild, or TOOMANYREQUESTS while
 * too many are being planned.
 */
export type PlanPackages = (packages: unknown, buildTemplate?: string | undefined) => Promise<PackagesPlan>;

export function createPlanPackages(read: ReadEnvironment = createReadEnvironment()): PlanPackages {
  return async (packages, buildTemplate) => {
    const request = parsePackages(packages);
    const name = nameOf(buildTemplate ?? DEFAULTS[request.type]);
    const template = findTemplate(name, request.type);
    if (template.type === 'CRAN')
      return { ...template.render(request), names: namesOfScript(request), record: { template: name } };
    const environment = await condaEnvironment(request, read);
    const rendered = template.render(request, environment);
    const text = environment.kind === 'url' ? environment.url : environment.text;
    return { ...rendered, names: environment.names, record: { template: name, environment: text } };
  };
}

/** `conda-pixi/v1` is another spelling of `conda/pixi:v1`. */
function nameOf(template: string): string {
  const [, type, name, version] = /^(conda|cran)-([a-z-]{1,32})\/(v\d{1,4})$/.exec(template) ?? [];
  return type === undefined ? template : `${type}/${name}:${version}`;
}

function findTemplate(name: string, type: PackagesRequest['type']): Template {
  const template = TEMPLATES.get(name);
  if (template?.type === type) return template;
  const known = [...TEMPLATES].filter(([, { type: of }]) => of === type).map(([key]) => key);
  const what = `${JSON.stringify(name.slice(0, 80))} is not a template for packages of type ${type}`;
  throw new InvalidBuild(`buildTemplate: ${what}; expected ${known.join(', ')}`);
}

function namesOfScript({ environment, entries }: PackagesRequest): PackageNames {
  return environment === undefined ? namesOfEntries(entries) : NO_NAMES;
}
