// What each container runtime reads to pull through a mirror: the file, where it goes, and what has to happen then. Pure.

export const RUNTIMES = ['docker', 'containerd', 'podman', 'crio'] as const;

export type Runtime = (typeof RUNTIMES)[number];

export interface Mirror {
  /** Of Veneer: no path. */
  readonly address: URL;
  readonly upstreams: readonly MirroredUpstream[];
}

interface MirroredUpstream {
  /** The registry's host, as names of images have it. */
  readonly host: string;
  /** Whether its images must come through Veneer or not at all. */
  readonly isStrict: boolean;
}

interface MirrorFile {
  readonly content: string;
  /** A line each: where the file goes, and what to do then. */
  readonly hints: readonly string[];
}

/** The upstreams cannot be mirrored in this way. */
export class NotMirrored extends Error {
  override readonly name = 'NotMirrored';
}

export const HUB = 'docker.io';

const FILES: Readonly<Record<Runtime, (mirror: Mirror) => MirrorFile>> = {
  docker: dockerFile,
  containerd: containerdFile,
  podman: mirror => registriesFile(mirror, 'nothing is to be restarted: podman reads it at each pull'),
  crio: mirror => registriesFile(mirror, 'then: systemctl reload crio'),
};

/** Throws NotMirrored. */
export function createMirrorFile(runtime: Runtime, mirror: Mirror): MirrorFile {
  return FILES[runtime](mirror);
}

function dockerFile({ address, upstreams }: Mirror): MirrorFile {
  const others = upstreams.filter(({ host }) => host !== HUB);
  if (others.length > 0) {
    throw new NotMirrored(`dockerd mirrors ${HUB} alone, and not ${hostsOf(others)}: pull those by Veneer's own name`);
  }
  return {
    content: `${JSON.stringify({ 'registry-mirrors': [address.origin] }, undefined, 2)}\n`,
    hints: [
      'goes to /etc/docker/daemon.json; where that is there, add the key to it',
      'then: systemctl reload docker',
      ...upstreams.filter(({ isStrict }) => isStrict).map(() => DOCKER_STRICT),
    ],
  };
}

const DOCKER_STRICT =
  'strict: while Veneer cannot be reached at all, dockerd goes to Docker Hub, unless a firewall keeps it from there';

function containerdFile({ address: { origin }, upstreams }: Mirror): MirrorFile {
  const strict = upstreams.filter(({ isStrict }) => isStrict);
  if (strict.length > 0 && strict.length < upstreams.length) {
    throw new NotMirrored(
      `${hostsOf(strict)} is strict and the others are not, which takes two files: name them apart with --upstream`,
    );
  }
  // Without a server of its own the file ends with the registry itself.
  const server = strict.length > 0 ? `server = "${origin}"\n\n` : '';
  const places = upstreams.map(({ host }) => `/etc/containerd/certs.d/${host}/hosts.toml`);
  return {
    content: `${server}[host."${origin}"]\n  capabilities = ["pull", "resolve"]\n`,
    hints: [
      `goes to ${places.join(' and ')}`,
      'nothing is to be restarted, where config.toml says config_path = "/etc/containerd/certs.d" already, in',
      '  [plugins."io.containerd.grpc.v1.cri".registry]; else add that, and: systemctl restart containerd',
    ],
  };
}

function registriesFile({ address, upstreams }: Mirror, restart: string): MirrorFile {
  const ported = upstreams.filter(({ host }) => hasPort(host));
  if (ported.length > 0) {
    throw new NotMirrored(`${hostsOf(ported)}: a path has no port; an alias in upstreams has none`);
  }
  const insecure = address.protocol === 'http:' ? 'insecure = true\n' : '';
  const entries = upstreams.map(({ host, isStrict }) => {
    const mirror = `location = "${address.host}/${host}"\n${insecure}`;
    const registry = `[[registry]]\nprefix = "${host}"\n`;
    return isStrict ? `${registry}${mirror}` : `${registry}location = "${host}"\n\n[[registry.mirror]]\n${mirror}`;
  });
  return { content: entries.join('\n'), hints: ['goes to /etc/containers/registries.conf.d/veneer.conf', restart] };
}

/** The path of a location begins with the registry. */
export function hasPort(host: string): boolean {
  return host.includes(':');
}

function hostsOf(upstreams: readonly MirroredUpstream[]): string {
  return upstreams.map(({ host }) => host).join(', ');
}
