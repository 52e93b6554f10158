// `veneer mirror-config`: the file that makes a container runtime pull through Veneer.
import { Argument, Command, InvalidArgumentError } from 'commander';
import { isRegistryHost } from '../oci/reference.ts';
import { explain } from './output.ts';

/** What the configuration says of Veneer as a mirror. */
export interface OwnMirror {
  /** Undefined where the configuration does not tell. */
  readonly address: URL | undefined;
  readonly defaultUpstream: string;
  /** The names of the configured upstreams: hosts and aliases. */
  readonly upstreams: readonly string[];
  /** Those whose images must come through Veneer or not at all. */
  readonly strict: readonly string[];
}

interface Options {
  readonly address?: URL;
  readonly upstream?: readonly string[];
  readonly strict?: boolean;
}

/** The file alone goes to standard output, what to do with it to standard error. */
export function createMirrorConfigCommand({
  findMirror,
}: {
  /** Asked when the command runs. */
  readonly findMirror: () => OwnMirror;
}): Command {
  return new Command('mirror-config')
    .description('prints the file that makes a container runtime pull through Veneer')
    .addArgument(new Argument('<runtime>', 'whose file it is').choices(RUNTIMES))
    .option(
      '--address <url>',
      'where the runtime reaches Veneer (default: publicUrl, or where it listens)',
      parseAddress,
    )
    .option('--upstream <hosts>', 'what to mirror, with commas (default: docker.io and the upstreams)', parseHosts)
    .option('--strict', 'none of them is pulled from beside Veneer (default: as their entries say)')
    .action((runtime: Runtime, options: Options, self: Command) => {
      try {
        const { content, hints } = createMirrorFile(runtime, findWanted(runtime, options, findMirror()));
        self.configureOutput().writeOut?.(content);
        for (const hint of hints) explain(self, hint);
      } catch (error) {
        if (error instanceof NotMirrored) self.error(`error: ${error.message}`);
        throw error;
      }
    });
}

function findWanted(runtime: Runtime, { address: given, upstream, strict = false }: Options, own: OwnMirror): Mirror {
  const address = given ?? own.address;
  if (!address) throw new NotMirrored('the configuration does not tell where Veneer is: say --address');
  if (runtime === 'docker' && own.defaultUpstream !== HUB) {
    const reason = `dockerd asks for names of ${HUB} without its name, and defaultUpstream is ${own.defaultUpstream}`;
    throw new NotMirrored(`${reason}: set it to ${HUB}`);
  }
  const hosts = upstream ?? [...new Set([HUB, ...own.upstreams.filter(host => canMirror(runtime, host))])];
  return { address, upstreams: hosts.map(host => ({ host, isStrict: strict || own.strict.includes(host) })) };
}

/** Of what is configured: what is not named on the command line is left out where it cannot be mirrored. */
function canMirror(runtime: Runtime, host: string): boolean {
  return runtime !== 'docker' && isRegistryHost(host) && (runtime === 'containerd' || !hasPort(host));
}

function parseAddress(text: string): URL {
  const url = URL.parse(text);
  const isHttp = url?.protocol === 'http:' || url?.protocol === 'https:';
  if (url && isHttp && url.href === `${url.origin}/`) return url;
  throw new InvalidArgumentError('expected http://host:port or https://host, and nothing more.');
}

function parseHosts(text: string): readonly string[] {
  const hosts = [...new Set(text.split(',').map(host => host.trim().toLowerCase()))];
  const wrong = hosts.find(host => !isRegistryHost(host));
  if (wrong === undefined) return hosts;
  throw new InvalidArgumentError(`"${wrong}" is no registry's host, such as docker.io or quay.io.`);
}

// What each container runtime reads to pull through a mirror: the file, where it goes, and what has to happen then. Pure.

const RUNTIMES = ['docker', 'containerd', 'podman', 'crio'] as const;

type Runtime = (typeof RUNTIMES)[number];

interface Mirror {
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
class NotMirrored extends Error {
  override readonly name = 'NotMirrored';
}

const HUB = 'docker.io';

const FILES: Readonly<Record<Runtime, (mirror: Mirror) => MirrorFile>> = {
  docker: dockerFile,
  containerd: containerdFile,
  podman: mirror => registriesFile(mirror, 'nothing is to be restarted: podman reads it at each pull'),
  crio: mirror => registriesFile(mirror, 'then: systemctl reload crio'),
};

/** Throws NotMirrored. */
function createMirrorFile(runtime: Runtime, mirror: Mirror): MirrorFile {
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
function hasPort(host: string): boolean {
  return host.includes(':');
}

function hostsOf(upstreams: readonly MirroredUpstream[]): string {
  return upstreams.map(({ host }) => host).join(', ');
}
