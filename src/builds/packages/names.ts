// Names of images of packages.
export interface PackageNames {
  /** Names and versions, for a tag: `salmon-1.6.0_samtools`. Undefined where nothing has a name. */
  readonly tagPrefix: string | undefined;
  /** Names only, for the last component of a repository: `salmon_samtools`. */
  readonly imageSuffix: string | undefined;
  /** For a single package: its version, for the tag with `imageSuffix`. */
  readonly version: string | undefined;
}

export const NO_NAMES: PackageNames = { tagPrefix: undefined, imageSuffix: undefined, version: undefined };

interface Named {
  readonly name: string;
  readonly version: string | undefined;
}

/** With the id appended, a tag stays below 128 characters. */
const MAX_LENGTH = 80;

/** Of entries such as `bioconda::salmon=1.6.0`, `pip:numpy==1.26`, `bioc::DESeq2`; URLs have no names. */
export function namesOfEntries(entries: readonly string[]): PackageNames {
  return namesOf(entries.flatMap(parseEntry));
}

/** Of an environment: its own name, else those of its dependencies. */
export function namesOfEnvironment({
  name,
  specs,
}: {
  readonly name?: string | undefined;
  readonly specs: readonly string[];
}): PackageNames {
  return name ? namesOf([{ name, version: undefined }]) : namesOfEntries(specs);
}

function parseEntry(entry: string): readonly Named[] {
  if (/^https?:/.test(entry)) return [];
  const spec = entry
    .replace(/^pip:(?!:)/, '')
    .replace(/^.*::/, '')
    .split('[', 1)
    .join('');
  const [name = '', version] = spec.split(/[=<>!~@\s,]+/).filter(part => part !== '');
  return name === '' ? [] : [{ name, version }];
}

function namesOf(packages: readonly Named[]): PackageNames {
  const [first, ...others] = packages;
  return {
    tagPrefix: join(packages.map(({ name, version }) => (version === undefined ? name : `${name}-${version}`))),
    imageSuffix: join(packages.map(({ name }) => name.toLowerCase())),
    version: first?.version !== undefined && others.length === 0 ? join([first.version]) : undefined,
  };
}

/** As many whole names as fit, without duplicates, in the common grammar of tags and repositories. */
function join(names: readonly string[]): string | undefined {
  let joined = '';
  for (const name of new Set(names.map(clean))) {
    const next = joined === '' ? name.slice(0, MAX_LENGTH) : `${joined}_${name}`;
    if (next.length > MAX_LENGTH) break;
    joined = next;
  }
  return clean(joined) || undefined;
}

/** Separators stand alone, and between letters or digits. */
function clean(name: string): string {
  return name
    .replaceAll(/[^A-Za-z0-9._-]/g, '')
    .replaceAll(/([._-])[._-]+/g, '$1')
    .replaceAll(/^[._-]|[._-]$/g, '');
}
