// Scripts of R that install packages, and fail where one is missing in the end: R itself only warns.
import { InvalidBuild } from '../request.ts';

/** `[bioc::]name[==version]`, with the signs that people use for the version. */
const ENTRY = /^(bioc::)?([A-Za-z][A-Za-z0-9.]*)(?:(?:==?|@)([0-9][0-9.-]*))?$/;
const REPOSITORY = /^https?:\/\/[A-Za-z0-9.:-]{1,300}(?:\/[A-Za-z0-9_./:@~%?&=+-]{0,2000})?$/;
const CRAN = 'https://cloud.r-project.org';

interface Parsed {
  readonly name: string;
  readonly version: string | undefined;
  readonly isBioconductor: boolean;
}

export const RESTORE_SCRIPT = `if (!requireNamespace('renv', quietly = TRUE)) install.packages('renv')
renv::restore(lockfile = '/tmp/renv.lock', library = .libPaths()[1], prompt = FALSE)
`;

/** Channels are addresses of repositories, or `cran`. Throws InvalidBuild for what is no package or address. */
export function installScript(entries: readonly string[], channels: readonly string[]): string {
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
      `packages.entries[${at}]: ${shown} is no package; expected name, name==version or bioc::name`,
    );
  }
  return { name, version, isBioconductor: prefix !== undefined };
}

function setRepositories(channels: readonly string[]): readonly string[] {
  const addresses = channels.map((channel, at) => {
    if (channel.toLowerCase() === 'cran') return CRAN;
    if (REPOSITORY.test(channel)) return channel;
    throw new InvalidBuild(`packages.channels[${at}]: of type CRAN it is the address of a repository, or cran`);
  });
  return addresses.length === 0 ? [] : [`options(repos = c(${addresses.map(address => `'${address}'`).join(', ')}))`];
}

function install({ name, version, isBioconductor }: Parsed): readonly string[] {
  if (isBioconductor) return ["need('BiocManager')", `BiocManager::install('${name}', ask = FALSE, update = FALSE)`];
  if (version === undefined) return [`install.packages('${name}')`];
  return ["need('remotes')", `remotes::install_version('${name}', version = '${version}', upgrade = 'never')`];
}
