// What a builder of buildx can do, from what `buildx --debug inspect` prints: it has no other form for it.
import { type Platform, parsePlatforms } from '../../../oci/platform.ts';
import { withOlderArmVariants } from '../../bases.ts';
import { BackendUnavailable } from '../../execution.ts';
import { NETWORK_LABEL } from '../buildkit/backend.ts';

export interface Builder {
  /** `docker`, `docker-container`, `kubernetes`, `remote` or `cloud`. */
  readonly driver: string;
  /** Of the nodes that run; none where the builder has not been started. */
  readonly platforms: readonly Platform[];
  /** The docker driver with the engine's classic store has none of these. */
  readonly isMultiPlatform: boolean;
  readonly hasCacheExport: boolean;
  /** Whether its BuildKit pins base images: those before 0.11 know no source policies, and ignore them. */
  readonly hasSourcePolicies: boolean;
  /** Whether a step of any node has the network of its machine, and where the nodes are then; none where each has its own. */
  readonly hostNetworks: readonly string[];
  /** Whether the engine keeps what was built under its name, beside what is pushed. */
  readonly keepsImages: boolean;
}

const OLD_BUILDKIT = /^v0\.(?:[1-9]|10)(?:\D|$)/;

/** Throws BackendUnavailable with what buildx says where it does not reach the builder. */
export function parseBuilder(output: string): Builder {
  const fields = parseFields(output);
  const [error] = fields.get('Error') ?? [];
  if (error) throw new BackendUnavailable(`buildx does not reach the builder: ${error}`);
  const [driver = ''] = fields.get('Driver') ?? [];
  return {
    driver,
    platforms: collectPlatforms(fields.get('Platforms') ?? []),
    // A buildx that does not list them has the docker driver of the classic store, or another driver with all.
    isMultiPlatform: hasFeature(fields, 'Multi-platform build') ?? driver !== 'docker',
    hasCacheExport: hasFeature(fields, 'Cache export') ?? driver !== 'docker',
    keepsImages:
      hasFeature(fields, 'Automatically load images to the Docker Engine image store') ?? driver === 'docker',
    hostNetworks: driver === 'docker-container' ? containerNetworks(fields) : findHostNetworks(output, driver),
    hasSourcePolicies: !(fields.get('BuildKit version') ?? []).some(version => OLD_BUILDKIT.test(version)),
  };
}

/** A BuildKit of one's own is where its address says, and tells the network of its steps. */
function findHostNetworks(output: string, driver: string): readonly string[] {
  if (driver !== 'remote') return [];
  const nodes = output.split(/^Name: /m).map(parseFields);
  return nodes.flatMap(node => (node.get(NETWORK_LABEL)?.includes('host') ? (node.get('Endpoint') ?? []) : []));
}

/** A container is on the machine of the engine, and has its network where it was made so. */
function containerNetworks(fields: Fields): readonly string[] {
  const isShared = fields.get('Driver Options')?.some(options => /(?:^|\s)network="?host"?/.test(options));
  return isShared ? ['tcp://localhost'] : [];
}

type Fields = ReadonlyMap<string, readonly string[]>;

/** The values of each key: there are as many as there are nodes. */
function parseFields(output: string): Fields {
  const fields = new Map<string, readonly string[]>();
  for (const [, key = '', value = ''] of output.matchAll(/^ *([A-Za-z][\w .-]*):[ \t]+(\S.*)$/gm)) {
    fields.set(key, [...(fields.get(key) ?? []), value.trim()]);
  }
  return fields;
}

/** What every node has. */
function hasFeature(fields: Fields, name: string): boolean | undefined {
  return fields.get(name)?.every(value => value === 'true');
}

/** A star marks those that were set by hand. */
function collectPlatforms(lists: readonly string[]): readonly Platform[] {
  return withOlderArmVariants(lists.flatMap(list => parsePlatforms(list.replaceAll('*', ''))));
}
