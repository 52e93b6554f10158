// The addresses of a service with this configuration, for its own machine and for the container runtimes that it mirrors for.
import type { Config } from './schema.ts';
import type { Listen } from './values.ts';

/** Undefined where the system chooses the port and `publicUrl` is not set. */
export function findOwnUrl({ listen, publicUrl, tls }: Pick<Config, 'listen' | 'publicUrl' | 'tls'>): URL | undefined {
  return listen.port === 0 ? publicUrl : listenUrl(listen, tls);
}

/** The address by which this machine reaches its own socket. */
export function listenUrl({ host, port }: Listen, tls?: Config['tls']): URL {
  // The wildcard address cannot be connected to.
  const name = ['0.0.0.0', '::'].includes(host) ? 'localhost' : host;
  return new URL(`${tls ? 'https' : 'http'}://${name.includes(':') ? `[${name}]` : name}:${port}`);
}

type MirrorKeys = Pick<Config, 'listen' | 'publicUrl' | 'tls' | 'defaultUpstream' | 'upstreams'>;

/** Names are in lower case. */
export function describeMirror({ defaultUpstream, upstreams, ...keys }: MirrorKeys) {
  const entries = Object.entries(upstreams).map(([name, { strict }]) => ({ name: name.toLowerCase(), strict }));
  return {
    address: keys.publicUrl ?? findOwnUrl(keys),
    defaultUpstream: defaultUpstream.toLowerCase(),
    upstreams: entries.map(({ name }) => name),
    strict: entries.filter(({ strict }) => strict).map(({ name }) => name),
  };
}

/**
 * An image to pull as a test, from this machine or the public address; undefined where no public image is certain to exist.
 */
export function suggestPull(config: MirrorKeys & Pick<Config, 'openUpstreams' | 'offline'>): string | undefined {
  const { listen, publicUrl, defaultUpstream, upstreams, openUpstreams, offline } = config;
  const hub = Object.keys(upstreams).find(name => name.toLowerCase() === HUB);
  if (offline || (!openUpstreams && hub === undefined)) return undefined;
  const { host } = publicUrl ?? listenUrl(listen);
  return defaultUpstream.toLowerCase() === HUB ? `${host}/${IMAGE}` : `${host}/${HUB}/${IMAGE}`;
}

const HUB = 'docker.io';
const IMAGE = 'library/alpine:3';

/** What does not work without `publicUrl`; undefined: nothing. */
export function findPublicUrlWarning({ listen, publicUrl }: Pick<Config, 'listen' | 'publicUrl'>): string | undefined {
  const isLocal = listen.host === 'localhost' || listen.host === '::1' || listen.host.startsWith('127.');
  if (publicUrl || isLocal) return undefined;
  const remedy = 'set it to the address that they use, such as https://veneer.example';
  return `publicUrl is not set: augment requests of clients on other machines are refused with 400; ${remedy}`;
}

type StartKeys = Pick<
  Config,
  'upstreams' | 'openUpstreams' | 'offline' | 'defaultUpstream' | 'rules' | 'builds' | 'hosted'
>;

/** A few lines: version, configuration file, and what is configured. No value that may be a secret. */
export function describeStart(
  config: StartKeys,
  { version, commit = 'unknown', file }: { version: string; commit?: string | undefined; file: string | undefined },
): readonly string[] {
  const { upstreams, openUpstreams, offline, defaultUpstream, rules, builds, hosted } = config;
  const names = Object.entries(upstreams).map(([name, { credentials, mirrors }]) => {
    const traits = [credentials && 'credentials', mirrors.length > 0 && `${mirrors.length} mirrors`].filter(Boolean);
    return traits.length > 0 ? `${name} (${traits.join(', ')})` : name;
  });
  const others = offline ? 'none is asked: offline' : openUpstreams ? 'any public registry' : 'no other';
  const kinds = builds.backends.map(({ type }) => type);
  return [
    `Veneer ${version}, commit ${commit}, configuration: ${file ?? 'none, all defaults'}`,
    `upstreams: ${summarize([...names, others])}; names without a registry: ${defaultUpstream}`,
    `rules: ${summarize(rules.map(({ name }) => name)) || 'none'}; hosted: ${summarize(hosted.prefixes) || 'nothing'}; builders: ${summarize(kinds) || 'none'}`,
  ];
}

const MAX_NAMED = 8;

function summarize(names: readonly string[]): string {
  const more = names.length - MAX_NAMED;
  return [...names.slice(0, MAX_NAMED), ...(more > 0 ? [`${more} more`] : [])].join(', ');
}
