// Turns packages into a build: the Containerfile that installs them, its files, and the name of the image.
import { InvalidJson, parseJson } from '../../oci/json.ts';
import type { PackagesRecord } from '../record.ts';
import { InvalidBuild } from '../request.ts';
import {
  type CondaEnvironment,
  condaEnvironment,
  createReadEnvironment,
  type ReadEnvironment,
} from './conda-environment.ts';
import { renderMicromambaV1, renderMicromambaV2, renderPixi, renderPixiLock } from './conda-templates.ts';
import { NO_NAMES, namesOfEntries, type PackageNames } from './names.ts';
import {
  chain,
  checkCommands,
  checkImage,
  decodeEnvironment,
  type PackagesRequest,
  parsePackages,
  quoteWord,
  type Rendered,
} from './request.ts';

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

// R packages of CRAN and Bioconductor, installed into an R image by a script that needs only base R, and fails if one is missing at the
// end: R itself only warns.

const DEFAULT_R = 'rocker/r-ver:4.4.1';

const SYSTEM_PACKAGE = /^[a-z0-9][a-z0-9+.:=~_-]*$/i;

function renderCran(request: PackagesRequest): Rendered {
  const { rImage = DEFAULT_R, basePackages = [], commands } = request.cranOpts;
  const files = filesOf(request);
  const mounts = Object.keys(files).map(file => `--mount=type=bind,source=${file},target=/tmp/${file}`);
  const lines = [
    `FROM ${checkImage('cranOpts.rImage', rImage)}`,
    'USER root',
    ...installSystemPackages(basePackages),
    `RUN ${mounts.join(' \\\n    ')} \\\n    ${chain(['Rscript /tmp/install.R', 'rm -rf /tmp/downloaded_packages /tmp/*.rds'])}`,
    'ENV R_LIBS_USER="/usr/local/lib/R/site-library"',
    ...checkCommands('cranOpts.commands', commands),
  ];
  return { containerFile: `${lines.join('\n')}\n`, files };
}

function installSystemPackages(packages: readonly string[]): readonly string[] {
  const bad = packages.find(name => !SYSTEM_PACKAGE.test(name));
  if (bad !== undefined) {
    throw new InvalidBuild(
      `packages.cranOpts.basePackages: ${JSON.stringify(bad.slice(0, 80))} is not a package of apt`,
    );
  }
  if (packages.length === 0) return [];
  const commands = [
    'apt-get update',
    `DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ${packages.map(quoteWord).join(' ')}`,
    'rm -rf /var/lib/apt/lists/*',
  ];
  return [`RUN ${chain(commands)}`];
}

/** A lock file of renv is restored; any other text is a script of its own. */
function filesOf({ environment, entries, channels }: PackagesRequest): Rendered['files'] {
  if (environment === undefined) return { 'install.R': installScript(entries, channels) };
  const text = decodeEnvironment(environment);
  if (/^https?:/.test(text)) throw new InvalidBuild('packages.environment: it cannot be a URL where the type is CRAN');
  return isRenvLock(text) ? { 'install.R': RESTORE_SCRIPT, 'renv.lock': text } : { 'install.R': text };
}

function isRenvLock(text: string): boolean {
  try {
    const lock = parseJson(Buffer.from(text));
    return lock instanceof Object && 'Packages' in lock;
  } catch (error) {
    if (error instanceof InvalidJson) return false;
    throw error;
  }
}

const RESTORE_SCRIPT = `if (!requireNamespace('renv', quietly = TRUE)) install.packages('renv')
renv::restore(lockfile = '/tmp/renv.lock', library = .libPaths()[1], prompt = FALSE)
`;

/** `[bioc::]name[==version]`, with common spellings of the operator. */
const ENTRY = /^(bioc::)?([A-Za-z][A-Za-z0-9.]*)(?:(?:==?|@)([0-9][0-9.-]*))?$/;

const REPOSITORY = /^https?:\/\/[A-Za-z0-9.:-]{1,300}(?:\/[A-Za-z0-9_./:@~%?&=+-]{0,2000})?$/;

const CRAN = 'https://cloud.r-project.org';

interface Parsed {
  readonly name: string;
  readonly version: string | undefined;
  readonly isBioconductor: boolean;
}

/** Channels are addresses of repositories, or `cran`. Throws InvalidBuild for an invalid package or address. */
function installScript(entries: readonly string[], channels: readonly string[]): string {
  const packages = entries.map(parseEntry);
  const lines = [
    ...setRepositories(channels),
    'need <- function(name) if (!requireNamespace(name, quietly = TRUE)) install.packages(name)',
    ...packages.flatMap(install),
    `wanted <- c(${packages.map(({ name }) => `'${name}'`).join(', ')})`,
    'absent <- setdiff(wanted, rownames(installed.packages()))',
    "if (length(absent) > 0) stop('not installed: ', toString(absent))",
  ];
  return `${lines.join('\n')}\n`;
}

function parseEntry(entry: string, at: number): Parsed {
  const [, prefix, name, version] = ENTRY.exec(entry) ?? [];
  if (name === undefined || (prefix !== undefined && version !== undefined)) {
    const shown = JSON.stringify(entry.slice(0, 80));
    throw new InvalidBuild(
      `packages.entries[${at}]: ${shown} is not a package; expected name, name==version or bioc::name`,
    );
  }
  return { name, version, isBioconductor: prefix !== undefined };
}

function setRepositories(channels: readonly string[]): readonly string[] {
  const addresses = channels.map((channel, at) => {
    if (channel.toLowerCase() === 'cran') return CRAN;
    if (REPOSITORY.test(channel)) return channel;
    throw new InvalidBuild(`packages.channels[${at}]: expected the URL of a repository, or cran`);
  });
  return addresses.length === 0 ? [] : [`options(repos = c(${addresses.map(address => `'${address}'`).join(', ')}))`];
}

function install({ name, version, isBioconductor }: Parsed): readonly string[] {
  if (isBioconductor) return ["need('BiocManager')", `BiocManager::install('${name}', ask = FALSE, update = FALSE)`];
  if (version === undefined) return [`install.packages('${name}')`];
  return ["need('remotes')", `remotes::install_version('${name}', version = '${version}', upgrade = 'never')`];
}
