// Opens rules with their layers: everything that needs no network is read and checked at once, and all faults are reported.
// Layers from registries and addresses are described when first needed, and pinned from then on.
import pLimit from 'p-limit';
import type { Augmentation } from '../../augment/augmentation.ts';
import { parseLocation } from '../../augment/location.ts';
import { isDiskFull } from '../../content/free-space.ts';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type Fingerprint, isUnchanged } from '../layers/fingerprint.ts';
import type { RuleLayerStore } from '../layers/layer-store.ts';
import type { LocalLayers, ReadCache, ReadLayer } from '../layers/local-layers.ts';
import { createRuleSet, isExplained } from '../rule-set.ts';
import type {
  DescribedLayer,
  DescribeRemote,
  LocalLayer,
  RemoteLayer,
  RuleLayer,
  RuleOptions,
  RuleSet,
} from '../rules.ts';

export interface OpenedRules {
  readonly rules: readonly RuleOptions[];
  readonly set: RuleSet;
  readonly local: LocalReads;
  readonly remote: RemoteLayers;
  /** Layers of this machine that did not fit on the disk, one line each: until they do, images that need them cannot be pulled. */
  readonly waiting: readonly string[];
}

/** By `keyOf`. */
type LocalReads = ReadonlyMap<string, ReadLayer>;
export type Watched = ReadonlyMap<string, Fingerprint>;

interface Opening {
  /** Every layer of this machine, as of when it was tried, by `keyOf`. */
  readonly watched: Watched;
  readonly outcome: Outcome;
}

type Outcome =
  | { readonly kind: 'opened'; readonly opened: OpenedRules }
  /** `mayPass`: may resolve without a change here, such as when a registry recovers. */
  | { readonly kind: 'faulty'; readonly faults: readonly string[]; readonly isTransient: boolean };

export interface OpenRulesOptions {
  /** Layers already read and described, to be reused. */
  readonly earlier?: OpenedRules | undefined;
  /** Remote layers to fetch now; the others are fetched when an image needs them. Default: none. */
  readonly isNeeded?: (layer: RemoteLayer) => boolean;
  /** Whether to wait for disk space for a layer of this machine. Default: a full disk throws. */
  readonly mayWait?: boolean;
  /** Reads every layer of this machine, changed or not. */
  readonly isForced?: boolean;
}

export type OpenRules = (rules: readonly RuleOptions[], options?: OpenRulesOptions) => Promise<Opening>;

/** Throws the resulting error for failures other than faulty rules, such as a full disk. */
export function createOpenRules(deps: {
  readonly localLayers: Pick<LocalLayers, 'read' | 'fingerprint'>;
  /** Of an earlier run of the service. */
  readonly readCache: ReadCache;
  readonly layerStore: Pick<RuleLayerStore, 'find'>;
  readonly describeRemote: DescribeRemote;
  readonly attestations: Augmentation['attestations'];
}): OpenRules {
  const { localLayers, readCache, layerStore, describeRemote, attestations } = deps;

  async function readOnce(
    layer: LocalLayer,
    {
      earlier,
      seen,
      isForced,
    }: { readonly earlier: ReadLayer | undefined; readonly seen: Fingerprint; readonly isForced: boolean },
  ): Promise<ReadLayer> {
    const isCurrent =
      earlier && isUnchanged(earlier.fingerprint, seen) && (await layerStore.find(earlier.described.layer.digest));
    if (isCurrent) return earlier;
    const cached = isForced ? undefined : await readCache.find(layer, seen);
    const read = cached ?? (await localLayers.read(layer));
    await readCache.keep(layer, read);
    return read;
  }

  return async (rules, { earlier, isNeeded = () => false, mayWait = false, isForced = false } = {}) => {
    const watched = new Map<string, Fingerprint>();
    const local = new Map<string, ReadLayer>();
    const waiting = new Map<string, RegistryError>();
    const remote = createRemoteLayers(describeRemote, earlier?.remote.knownOf(remoteLayersOf(rules)));
    // Each may be gigabytes, all from the same disk.
    const serially = pLimit(1);

    async function openLocal(layer: LocalLayer): Promise<void> {
      const key = keyOf(layer);
      if (local.has(key)) return;
      const seen = await localLayers.fingerprint(layer);
      watched.set(key, seen);
      const options = { earlier: earlier?.local.get(key), seen, isForced };
      const read = await readOnce(layer, options).catch(error => waitFor(layer, error));
      if (!read) return;
      watched.set(key, read.fingerprint);
      local.set(key, read);
    }

    function waitFor(layer: LocalLayer, error: unknown): undefined {
      const isAway = error instanceof RegistryError && error.code === 'UNAVAILABLE';
      if (!mayWait || !(isAway || isDiskFull(error))) throw error;
      const reason = isAway
        ? `the object store has no answer for ${layer.path}: it is read as soon as there is one`
        : `no disk space for ${layer.path}: it is read as soon as there is enough`;
      waiting.set(keyOf(layer), new RegistryError('UNAVAILABLE', reason, { cause: error }));
    }

    async function openRemote(layer: RemoteLayer): Promise<void> {
      checkRemoteLayer(layer);
      if (isNeeded(layer)) await remote.get(layer);
    }

    const open = async (layer: RuleLayer) => (isLocal(layer) ? serially(() => openLocal(layer)) : openRemote(layer));
    const faults = (await Promise.all(positionsOf(rules).map(position => findFault(position, open)))).flat();
    if (faults.length > 0) {
      const isTransient = faults.some(({ layer }) => !isLocal(layer));
      return { watched, outcome: { kind: 'faulty', faults: faults.map(({ fault }) => fault), isTransient } };
    }
    const getLayers = async (layer: RuleLayer) => {
      if (!isLocal(layer)) return remote.get(layer);
      const fault = waiting.get(keyOf(layer));
      if (fault) throw fault;
      const read = local.get(keyOf(layer));
      return read ? [read.described] : [];
    };
    const set = createRuleSet({ rules, getLayers, attestations });
    return {
      watched,
      outcome: {
        kind: 'opened',
        opened: { rules, set, local, remote, waiting: [...waiting.values()].map(({ message }) => message) },
      },
    };
  };
}

interface LayerPosition {
  readonly name: string;
  readonly layer: RuleLayer;
}

function positionsOf(rules: readonly RuleOptions[]): readonly LayerPosition[] {
  return rules.flatMap(({ layers }, rule) =>
    layers.map((layer, at) => ({ name: `rules.${rule}.layers.${at}`, layer })),
  );
}

async function findFault({ name, layer }: LayerPosition, open: (layer: RuleLayer) => Promise<void>) {
  try {
    await open(layer);
    return [];
  } catch (error) {
    if (isExplained(error)) return [{ layer, fault: `${name}: ${error.message}` }];
    throw error;
  }
}

export function isLocal(layer: RuleLayer): layer is RuleLayer & LocalLayer {
  return layer.kind === 'directory' || layer.kind === 'file';
}

export function remoteLayersOf(rules: readonly RuleOptions[]): readonly RemoteLayer[] {
  return rules.flatMap(({ layers }) => layers).flatMap(layer => (isLocal(layer) ? [] : [layer]));
}

/** Those in the layer store. */
export function digestsOf({ local }: OpenedRules): readonly Digest[] {
  return [...local.values()].map(({ described }) => described.layer.digest);
}

/** By the layer as text. */
type Known = ReadonlyMap<string, readonly DescribedLayer[]>;

interface RemoteLayers {
  /** Shared by concurrent callers. Failures are retried by the next call. */
  get(layer: RemoteLayer): Promise<readonly DescribedLayer[]>;
  /** The descriptions so far, of these layers. */
  knownOf(layers: readonly RemoteLayer[]): Known;
}

/** `known`: descriptions that need not be fetched again. */
export function createRemoteLayers(describe: DescribeRemote, known: Known = new Map()): RemoteLayers {
  const described = new Map(known);
  const running = new Map<string, Promise<readonly DescribedLayer[]>>();

  async function ask(layer: RemoteLayer, key: string): Promise<readonly DescribedLayer[]> {
    const layers = await describe(layer);
    described.set(key, layers);
    return layers;
  }

  return {
    async get(layer) {
      const key = keyOf(layer);
      const found = described.get(key) ?? running.get(key);
      if (found) return found;
      const asked = ask(layer, key).finally(() => running.delete(key));
      running.set(key, asked);
      return asked;
    },
    knownOf(layers) {
      const wanted = new Set(layers.map(keyOf));
      return new Map([...described].filter(([key]) => wanted.has(key)));
    },
  };
}

/** Checks what needs no network. Throws InvalidLayer. */
function checkRemoteLayer(layer: RemoteLayer): void {
  if (layer.kind === 'url') parseLocation(layer.url);
  else if (layer.kind === 'blob') parseLocation(layer.location);
}

/** The same for equal layers, whatever their platforms. */
export function keyOf(layer: RuleLayer): string {
  switch (layer.kind) {
    case 'directory':
    case 'file':
      return JSON.stringify([layer.kind, layer.path]);
    case 'url':
      return JSON.stringify([layer.kind, layer.url, layer.digest]);
    case 'blob':
      return JSON.stringify([layer.kind, layer.location]);
    case 'image':
      return JSON.stringify([layer.kind, layer.image]);
  }
}
