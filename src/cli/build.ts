// `veneer build`: has a running service build an image from a Containerfile and a context of this machine.
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { Command, Option } from 'commander';
import { packDirectory } from '../builds/context/directory.ts';
import { openArchive } from './archive.ts';
import { parseCompression, parseTimeout } from './build-options.ts';
import { type BuildCommandOptions, buildRequestOf } from './build-request.ts';
import { type ContainerFile, readContainerFile } from './container-file.ts';
import { collect, collectPair, collectPlatforms, parseTargetName } from './image-options.ts';
import { addOutcomeOptions, tellOutcome } from './outcome.ts';
import { explain } from './output.ts';
import { createSender, type Send, type SentBytes } from './sender.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

/** A context that the service fetches itself. */
const REMOTE = /^(?:https?|oci|docker):\/\//;

export function createBuildCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('build')
    .description('builds an image from a Containerfile, and prints the reference to pull')
    .argument('[context]', 'the build context: a directory, a tar, or a URL of one; absent: there is none')
    .option(
      '-f, --file <file>',
      'the Containerfile, - for standard input (default: Containerfile or Dockerfile in the context)',
    )
    .option(
      '--platform <platforms>',
      'such as linux/amd64,linux/arm64 (default: as the service has it)',
      collectPlatforms,
    )
    .option('-t, --tag <name>', 'REPOSITORY[:TAG] where the image is pushed; implies --freeze', parseTargetName)
    .option('--build-arg <key=value>', 'a build argument; may be there several times', collectPair)
    .option('--target <stage>', 'the stage to build (default: the last)')
    .option('--label <key=value>', 'a label of the image; may be there several times', collectPair)
    .option(
      '--secret <id>',
      'a secret that the service has, for RUN --mount=type=secret; may be there several times',
      collect,
    )
    .addOption(new Option('--network <mode>', 'the network of RUN').choices(['default', 'none']))
    .addOption(new Option('--provenance <mode>', 'a provenance attestation').choices(['none', 'min', 'max']))
    .option('--sbom', 'an attestation of what is in the image')
    .option('--cache <repository>', 'the repository of the layer cache')
    .option(
      '--compression <mode[:level]>',
      'how layers are packed: gzip, zstd, estargz or uncompressed',
      parseCompression,
    )
    .option('--freeze', 'names the image in its repository, without a token that ends')
    .option('--timeout <duration>', 'how long the build may take, such as 10m', parseTimeout)
    .option('--dry-run', 'says what would be built, and begins nothing');
  return addServerOption(addOutcomeOptions(command)).action((context: string | undefined, _, self: Command) =>
    build(self, deps, context),
  );
}

async function build(self: Command, deps: ServiceCommandDeps, context: string | undefined): Promise<void> {
  const options = self.opts<BuildCommandOptions>();
  await callService(self, deps, async ({ service, builds }) => {
    const directory = context === undefined || REMOTE.test(context) ? undefined : context;
    const file = await readContainerFile({ file: options.file, directory, stdin: deps.stdin });
    const send = createSender(service, { ...deps, explain: line => explain(self, line) });
    const buildContext = context === undefined ? undefined : await sendContext(context, file, send);
    const submitted = await builds.submit(buildRequestOf(options, file, buildContext));
    await tellOutcome(self, builds, deps, submitted);
  });
}

async function sendContext(context: string, { path }: ContainerFile, send: Send): Promise<SentBytes> {
  if (REMOTE.test(context)) return { location: context };
  await using folder = await mkdtempDisposable(join(tmpdir(), 'veneer-context-'));
  // For an ignore file of its own.
  const containerFile = path && relative(context, path);
  const archive = await openArchive(context, directory => packDirectory(directory, { containerFile }), folder.path);
  // The folder has to be there until all is sent.
  return await send('the context', archive);
}
