// `veneer mirror-config`: the file that makes a container runtime pull through Veneer.
import { Argument, Command, InvalidArgumentError } from 'commander';
import { isRegistryHost } from '../oci/reference.ts';
import { createMirrorFile, HUB, hasPort, type Mirror, NotMirrored, RUNTIMES, type Runtime } from './mirror-file.ts';
import { explain } from './output.ts';

interface MirrorConfigDeps {
  /** Asked when the command runs. */
  readonly findMirror: () => OwnMirror;
}

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
export function createMirrorConfigCommand({ findMirror }: MirrorConfigDeps): Command {
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
