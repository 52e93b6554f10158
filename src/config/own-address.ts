// Where a service of this configuration can be reached, on its own machine and by the runtimes that it mirrors for.
import type { Config } from './schema.ts';
import type { Listen } from './values.ts';

/** Undefined where the system chooses the port and no `publicUrl` is there. */
export function findOwnUrl({ listen, publicUrl }: Pick<Config, 'listen' | 'publicUrl'>): URL | undefined {
  return listen.port === 0 ? publicUrl : listenUrl(listen);
}

/** By what name this machine reaches its own socket. */
export function listenUrl({ host, port }: Listen): URL {
  // An address for all is no address to ask.
  const name = ['0.0.0.0', '::'].includes(host) ? 'localhost' : host;
  return new URL(`http://${name.includes(':') ? `[${name}]` : name}:${port}`);
}

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
