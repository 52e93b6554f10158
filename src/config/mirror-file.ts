// The configuration file that makes a container runtime pull through Veneer, for each runtime: its text, its path, and the next steps. Pure.
import { isRegistryHost } from '../oci/reference.ts';

/** The configuration of Veneer as a mirror. */
export interface OwnMirror {
  /** Undefined where it is not configured. */
  readonly address: URL | undefined;
  readonly defaultUpstream: string;
  /** The names of the configured upstreams: hosts and aliases. */
  readonly upstreams: readonly string[];
  /** Those whose images must only be pulled through Veneer. */
  readonly strict: readonly string[];
}

export const RUNTIMES = ['docker', 'containerd', 'podman', 'crio'] as const;

export type Runtime = (typeof RUNTIMES)[number];

interface Mirror {
  /** Of Veneer: no path. */
  readonly address: URL;
  readonly upstreams: readonly MirroredUpstream[];
}

interface MirroredUpstream {
  /** The registry's host, as in names of images. */
  readonly host: string;
  /** Whether its images must only be pulled through Veneer. */
  readonly isStrict: boolean;
}

interface MirrorFile {
  readonly content: string;
  /** One line each: the path of the file, and what to do next. */
  readonly hints: readonly string[];
}

/** The upstreams cannot be mirrored in this way. */
export class NotMirrored extends Error {
  override readonly name = 'NotMirrored';
}

const HUB = 'docker.io';

const FILES: Readonly<Record<Runtime, (mirror: Mirror) => MirrorFile>> = {
  docker: dockerFile,
  containerd: containerdFile,
  podman: mirror => registriesFile(mirror, 'no restart needed: podman reads it at each pull'),
  crio: mirror => registriesFile(mirror, 'then: systemctl reload crio'),
};

/** What is given goes before the configuration. Throws NotMirrored. */
export function createMirrorFile(runtime: Runtime, given: MirrorWish, own: OwnMirror): MirrorFile {
  return FILES[runtime](findWanted(runtime, given, own));
}

interface MirrorWish {
  readonly address?: URL | undefined;
  /** The hosts of registries. */
  readonly upstream?: readonly string[] | undefined;
  readonly strict?: boolean | undefined;
}

function findWanted(
  runtime: Runtime,
  { address: given, upstream, strict = false }: MirrorWish,
  own: OwnMirror,
): Mirror {
  const address = given ?? own.address;
  if (!address) throw new NotMirrored('the configuration does not say where Veneer is reachable: give --address');
  if (runtime === 'docker' && own.defaultUpstream !== HUB) {
    const reason = `dockerd requests images of ${HUB} without the registry name, but defaultUpstream is ${own.defaultUpstream}`;
    throw new NotMirrored(`${reason}: set it to ${HUB}`);
  }
  const hosts = upstream ?? [...new Set([HUB, ...own.upstreams.filter(host => canMirror(runtime, host))])];
  return { address, upstreams: hosts.map(host => ({ host, isStrict: strict || own.strict.includes(host) })) };
}

/** The configured ones: those not given on the command line are skipped if they cannot be mirrored. */
function canMirror(runtime: Runtime, host: string): boolean {
  return runtime !== 'docker' && isRegistryHost(host) && (runtime === 'containerd' || !hasPort(host));
}

function dockerFile({ address, upstreams }: Mirror): MirrorFile {
  const others = upstreams.filter(({ host }) => host !== HUB);
  if (others.length > 0) {
    throw new NotMirrored(`dockerd can only mirror ${HUB}, not ${hostsOf(others)}: pull those by Veneer's own name`);
  }
  return {
    content: `${JSON.stringify({ 'registry-mirrors': [address.origin] }, undefined, 2)}\n`,
    hints: [
      'save as /etc/docker/daemon.json; if that exists, add the key to it',
      'then: systemctl reload docker',
      ...upstreams.filter(({ isStrict }) => isStrict).map(() => DOCKER_STRICT),
    ],
  };
}

const DOCKER_STRICT =
  'strict: while Veneer is unreachable, dockerd falls back to Docker Hub unless a firewall prevents it';

function containerdFile({ address: { origin }, upstreams }: Mirror): MirrorFile {
  const strict = upstreams.filter(({ isStrict }) => isStrict);
  if (strict.length > 0 && strict.length < upstreams.length) {
    throw new NotMirrored(
      `${hostsOf(strict)} is strict and the others are not, which takes two files: select each group with --upstream`,
    );
  }
  // Without a server of its own the file falls back to the registry itself.
  const server = strict.length > 0 ? `server = "${origin}"\n\n` : '';
  const files = upstreams.map(({ host }) => `/etc/containerd/certs.d/${host}/hosts.toml`);
  return {
    content: `${server}[host."${origin}"]\n  capabilities = ["pull", "resolve"]\n`,
    hints: [
      `save as ${files.join(' and ')}`,
      'no restart needed if config.toml already has config_path = "/etc/containerd/certs.d" in its section;',
      '  otherwise add it, and: systemctl restart containerd',
      '  containerd 2 (version = 3): [plugins."io.containerd.cri.v1.images".registry]',
      '  containerd 1 (version = 2): [plugins."io.containerd.grpc.v1.cri".registry]',
      'then: veneer doctor, on that machine',
    ],
  };
}

function registriesFile({ address, upstreams }: Mirror, restart: string): MirrorFile {
  const ported = upstreams.filter(({ host }) => hasPort(host));
  if (ported.length > 0) {
    throw new NotMirrored(`${hostsOf(ported)}: a path cannot contain a port; use an alias in upstreams`);
  }
  const insecure = address.protocol === 'http:' ? 'insecure = true\n' : '';
  const entries = upstreams.map(({ host, isStrict }) => {
    const mirror = `location = "${address.host}/${host}"\n${insecure}`;
    const registry = `[[registry]]\nprefix = "${host}"\n`;
    return isStrict ? `${registry}${mirror}` : `${registry}location = "${host}"\n\n[[registry.mirror]]\n${mirror}`;
  });
  return { content: entries.join('\n'), hints: ['save as /etc/containers/registries.conf.d/veneer.conf', restart] };
}

/** The path of a location starts with the registry. */
function hasPort(host: string): boolean {
  return host.includes(':');
}

function hostsOf(upstreams: readonly MirroredUpstream[]): string {
  return upstreams.map(({ host }) => host).join(', ');
}
