// Where a rule has a layer from, for people: as it says it, but for what may be a secret.
import type { RuleLayer } from './rule.ts';

/** Such as `directory ./layers/ca`, or `https://example.com/tool.tar.gz`. Without user info, query and fragment of an address. */
export function tellLayerPlace(layer: RuleLayer): string {
  switch (layer.kind) {
    case 'directory':
    case 'file':
      return `${layer.kind} ${layer.path}`;
    case 'url':
      return tellAddress(layer.url);
    case 'blob':
      return tellAddress(layer.location);
    case 'image':
      return `image ${layer.image}`;
  }
}

/** Of any scheme; what is no address is not told at all. */
function tellAddress(text: string): string {
  const url = URL.parse(text);
  if (!url) return 'an address that is none';
  const { protocol, host, pathname } = url;
  return `${protocol}//${host}${pathname}`;
}
