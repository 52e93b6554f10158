// What the configuration says of Veneer as a mirror of its upstreams.
import { findOwnUrl } from './own-url.ts';
import type { Config } from './schema.ts';

type MirrorKeys = Pick<Config, 'listen' | 'publicUrl' | 'defaultUpstream' | 'upstreams'>;

/** Names are in lower case. */
export function describeMirror({ defaultUpstream, upstreams, ...places }: MirrorKeys) {
  const entries = Object.entries(upstreams).map(([name, { strict }]) => ({ name: name.toLowerCase(), strict }));
  return {
    address: places.publicUrl ?? findOwnUrl(places),
    defaultUpstream: defaultUpstream.toLowerCase(),
    upstreams: entries.map(({ name }) => name),
    strict: entries.filter(({ strict }) => strict).map(({ name }) => name),
  };
}
