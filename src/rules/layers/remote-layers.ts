// Layers of registries and addresses: described at the first need, and from then on the same.
import { parseLocation } from '../../augment/location.ts';
import type { DescribedLayer, DescribeRemote, RemoteLayer, RuleLayer } from '../rules.ts';

/** By what the layer is, as text. */
type Known = ReadonlyMap<string, readonly DescribedLayer[]>;

export interface RemoteLayers {
  /** Once for all who ask at a time. What failed is tried again at the next call. */
  get(layer: RemoteLayer): Promise<readonly DescribedLayer[]>;
  /** What is described until now, of these layers. */
  knownOf(layers: readonly RemoteLayer[]): Known;
}

/** `known`: what is not asked for anew. */
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

/** Looks at what needs no network. Throws InvalidLayer. */
export function checkRemoteLayer(layer: RemoteLayer): void {
  if (layer.kind === 'url') parseLocation(layer.url);
  else if (layer.kind === 'blob') parseLocation(layer.location);
}

/** The same for what is the same layer, whatever the platforms that it is for. */
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
