// Layers from registries and addresses: described when first needed, and pinned from then on.
import { parseLocation } from '../../augment/location.ts';
import type { DescribedLayer, DescribeRemote, RemoteLayer, RuleLayer } from '../rules.ts';

/** By the layer as text. */
type Known = ReadonlyMap<string, readonly DescribedLayer[]>;

export interface RemoteLayers {
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
export function checkRemoteLayer(layer: RemoteLayer): void {
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
