// What a builder of buildx can do, parsed from `buildx --debug inspect`, which has no machine-readable form.
import { type Platform, parsePlatforms } from '../../../oci/platform.ts';
import { withOlderArmVariants } from '../../bases.ts';
import { BackendUnavailable } from '../../execution.ts';
import { NETWORK_LABEL } from '../buildkit/backend.ts';

export interface Builder {
  /** `docker`, `docker-container`, `kubernetes`, `remote` or `cloud`. */
  readonly driver: string;
  /** Of the running nodes; none if the builder is not started. */
  readonly platforms: readonly Platform[];
  /** The docker driver with the engine's classic image store supports none of these. */
  readonly isMultiPlatform: boolean;
  readonly hasCacheExport: boolean;
  /** Whether its BuildKit can pin base images: before 0.11 source policies are ignored. */
  readonly hasSourcePolicies: boolean;
  /** The addresses of nodes whose steps have the network of their machine. */
  readonly hostNetworks: readonly string[];
  /** Whether the engine also stores the image under its name, besides pushing it. */
  readonly keepsImages: boolean;
}

const OLD_BUILDKIT = /^v0\.(?:[1-9]|10)(?:\D|$)/;

/** Throws BackendUnavailable, with buildx's own error, if it does not reach the builder. */
export function parseBuilder(output: string): Builder {
  const fields = parseFields(output);
  const [error] = fields.get('Error') ?? [];
  if (error) throw new BackendUnavailable(`buildx does not reach the builder: ${error}`);
  const [driver = ''] = fields.get('Driver') ?? [];
  return {
    driver,
    platforms: collectPlatforms(fields.get('Platforms') ?? []),
    // A buildx that does not list them: the docker driver has none, all others have all.
    isMultiPlatform: hasFeature(fields, 'Multi-platform build') ?? driver !== 'docker',
    hasCacheExport: hasFeature(fields, 'Cache export') ?? driver !== 'docker',
    keepsImages:
      hasFeature(fields, 'Automatically load images to the Docker Engine image store') ?? driver === 'docker',
    hostNetworks: driver === 'docker-container' ? containerNetworks(fields) : findHostNetworks(output, driver),
    hasSourcePolicies: !(fields.get('BuildKit version') ?? []).some(version => OLD_BUILDKIT.test(version)),
  };
}

/** A remote BuildKit has an address, and a label for the network of its steps. */
function findHostNetworks(output: string, driver: string): readonly string[] {
  if (driver !== 'remote') return [];
  const nodes = output.split(/^Name: /m).map(parseFields);
  return nodes.flatMap(node => (node.get(NETWORK_LABEL)?.includes('host') ? (node.get('Endpoint') ?? []) : []));
}

/** A container runs on the engine's machine, and shares its network if it was created so. */
function containerNetworks(fields: Fields): readonly string[] {
  const isShared = fields.get('Driver Options')?.some(options => /(?:^|\s)network="?host"?/.test(options));
  return isShared ? ['tcp://localhost'] : [];
}

type Fields = ReadonlyMap<string, readonly string[]>;

/** The values of each key, one for each node. */
function parseFields(output: string): Fields {
  const fields = new Map<string, readonly string[]>();
  for (const [, key = '', value = ''] of output.matchAll(/^ *([A-Za-z][\w .-]*):[ \t]+(\S.*)$/gm)) {
    fields.set(key, [...(fields.get(key) ?? []), value.trim()]);
  }
  return fields;
}

/** Whether every node has the feature. */
function hasFeature(fields: Fields, name: string): boolean | undefined {
  return fields.get(name)?.every(value => value === 'true');
}

/** A star marks platforms that were set by hand. */
function collectPlatforms(lists: readonly string[]): readonly Platform[] {
  return withOlderArmVariants(lists.flatMap(list => parsePlatforms(list.replaceAll('*', ''))));
}
