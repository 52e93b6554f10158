// R packages of CRAN and Bioconductor, installed into an image of R by a script of base R alone.
import { InvalidJson, parseJson } from '../../oci/json.ts';
import { InvalidBuild } from '../request.ts';
import { installScript, RESTORE_SCRIPT } from './r-script.ts';
import type { Rendered } from './rendered.ts';
import { decodeEnvironment, type PackagesRequest } from './request.ts';
import { quoteWord } from './shell-word.ts';
import { chain, checkCommands, checkImage } from './template.ts';

const DEFAULT_R = 'rocker/r-ver:4.4.1';
const SYSTEM_PACKAGE = /^[a-z0-9][a-z0-9+.:=~_-]*$/i;

export function renderCran(request: PackagesRequest): Rendered {
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
    throw new InvalidBuild(`packages.cranOpts.basePackages: ${JSON.stringify(bad.slice(0, 80))} is no package of apt`);
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
  if (/^https?:/.test(text)) throw new InvalidBuild('packages.environment: of type CRAN it cannot be a URL');
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
