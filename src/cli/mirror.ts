// `veneer mirror-config`: prints the configuration file that makes a container runtime pull through Veneer.
import { Argument, Command, InvalidArgumentError } from 'commander';
import { createMirrorFile, NotMirrored, type OwnMirror, RUNTIMES, type Runtime } from '../config/mirror-file.ts';
import { isRegistryHost } from '../oci/reference.ts';
import { explain, printJson } from './output.ts';

interface Options {
  readonly address?: URL;
  readonly upstream?: readonly string[];
  readonly strict?: boolean;
  readonly json?: boolean;
}

/** Only the file goes to standard output, instructions to standard error. */
export function createMirrorConfigCommand({
  findMirror,
}: {
  /** Called when the command runs. */
  readonly findMirror: () => OwnMirror;
}): Command {
  return new Command('mirror-config')
    .description('prints the file that makes a container runtime pull through Veneer')
    .addArgument(new Argument('<runtime>', 'the runtime').choices(RUNTIMES))
    .option(
      '--address <url>',
      'the address of Veneer for the runtime (default: publicUrl, or the listen address)',
      parseAddress,
    )
    .option(
      '--upstream <hosts>',
      'the registries to mirror, comma-separated (default: docker.io and the upstreams)',
      parseHosts,
    )
    .option('--strict', 'never pull them directly (default: as configured for each)')
    .option('--json', 'prints the file and instructions as JSON')
    .action((runtime: Runtime, options: Options, self: Command) => {
      try {
        const { content, hints } = createMirrorFile(runtime, options, findMirror());
        if (options.json) {
          printJson(self, { runtime, content, hints });
          return;
        }
        self.configureOutput().writeOut?.(content);
        for (const hint of hints) explain(self, hint);
      } catch (error) {
        if (error instanceof NotMirrored) self.error(`error: ${error.message}`);
        throw error;
      }
    });
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
  throw new InvalidArgumentError(`"${wrong}" is not a registry host, such as docker.io or quay.io.`);
}
