// `veneer build`: has a running service build an image from a local Containerfile and context.
import { mkdtempDisposable, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Command, InvalidArgumentError, Option } from 'commander';
import { packDirectory } from '../builds/context/directory.ts';
import { compressionSchema } from '../builds/spec.ts';
import { duration } from '../config/values.ts';
import { collect, collectPair, collectPlatforms, parseTargetName, type TargetName, targetOf } from './image-options.ts';
import { addOutcomeOptions, printOutcome } from './outcome.ts';
import { explain } from './output.ts';
import { createSender, describeFault, NothingToSend, openArchive, type Send, type UploadContent } from './sender.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

/** A context that the service fetches itself. */
const REMOTE = /^(?:https?|oci|docker):\/\//;

export function createBuildCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('build')
    .description('builds an image from a Containerfile, and prints the reference to pull')
    .argument('[context]', 'the build context: a directory, a tar, or the URL of one; absent: none')
    .option(
      '-f, --file <file>',
      'the Containerfile, - for standard input (default: Containerfile or Dockerfile in the context)',
    )
    .option(
      '--platform <platforms>',
      'such as linux/amd64,linux/arm64 (default: that of the service)',
      collectPlatforms,
    )
    .option('-t, --tag <name>', 'REPOSITORY[:TAG] where the image is pushed; implies --freeze', parseTargetName)
    .option('--build-arg <key=value>', 'a build argument; may be given several times', collectPair)
    .option('--target <stage>', 'the stage to build (default: the last)')
    .option('--label <key=value>', 'a label of the image; may be given several times', collectPair)
    .option(
      '--secret <id>',
      'a secret of the service, for RUN --mount=type=secret; may be given several times',
      collect,
    )
    .addOption(new Option('--network <mode>', 'the network mode of RUN').choices(['default', 'none']))
    .addOption(new Option('--provenance <mode>', 'a provenance attestation').choices(['none', 'min', 'max']))
    .option('--sbom', 'an SBOM attestation')
    .option('--cache <repository>', 'the repository of the layer cache')
    .option(
      '--compression <mode[:level]>',
      'the compression of layers: gzip, zstd, estargz or uncompressed',
      parseCompression,
    )
    .option('--freeze', 'gives the image a permanent name in its repository, without an expiring token')
    .option('--timeout <duration>', 'the timeout of the build, such as 10m', parseTimeout)
    .option('--dry-run', 'reports what would be built, without starting it');
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
    await printOutcome(self, builds, deps, submitted);
  });
}

async function sendContext(context: string, { path }: ContainerFile, send: Send): Promise<UploadContent> {
  if (REMOTE.test(context)) return { location: context };
  await using folder = await mkdtempDisposable(join(tmpdir(), 'veneer-context-'));
  // For an ignore file of its own.
  const containerFile = path && relative(context, path);
  const archive = await openArchive(context, directory => packDirectory(directory, { containerFile }), folder.path);
  // The folder must exist until everything is sent.
  return await send('the context', archive);
}

interface BuildCommandOptions {
  readonly file?: string;
  readonly platform?: readonly string[];
  readonly tag?: TargetName;
  readonly buildArg?: Readonly<Record<string, string>>;
  readonly target?: string;
  readonly label?: Readonly<Record<string, string>>;
  readonly secret?: readonly string[];
  readonly network?: string;
  readonly provenance?: string;
  readonly sbom?: boolean;
  readonly cache?: string;
  readonly compression?: CompressionOption;
  readonly freeze?: boolean;
  readonly timeout?: string;
  readonly dryRun?: boolean;
}

/** The body of the request, docs/api.md "Submit". Undefined fields are not sent. */
function buildRequestOf(options: BuildCommandOptions, file: ContainerFile, buildContext?: UploadContent): object {
  const { sbom, provenance } = options;
  return {
    containerFile: Buffer.from(file.text).toString('base64'),
    containerPlatform: options.platform?.join(','),
    buildContext,
    ...targetOf(options.tag, options.freeze),
    buildArgs: options.buildArg,
    buildTarget: options.target,
    buildLabels: options.label,
    buildSecrets: options.secret,
    buildNetwork: options.network,
    buildAttestations: sbom || provenance ? { sbom, provenance } : undefined,
    cacheRepository: options.cache,
    buildCompression: options.compression,
    buildTimeout: options.timeout,
    dryRun: options.dryRun,
  };
}

interface CompressionOption {
  readonly mode: string;
  readonly level?: number | undefined;
}

const { mode: modeSchema, level: levelSchema } = compressionSchema.shape;

/** `mode` or `mode:level`. */
function parseCompression(text: string): CompressionOption {
  const [, mode, level] = /^([a-z]+)(?::(\d{1,2}))?$/.exec(text) ?? [];
  const isKnown = modeSchema.safeParse(mode).success;
  const { data, success } = levelSchema.safeParse(level === undefined ? undefined : Number(level));
  if (mode !== undefined && isKnown && success) return { mode, level: data };
  throw new InvalidArgumentError(`expected ${modeSchema.options.join(', ')}, optionally with a level such as zstd:3`);
}

/** The Containerfile as written. */
function parseTimeout(text: string): string {
  const { error } = duration({ minMs: 1000 }).safeParse(text);
  if (error) throw new InvalidArgumentError(error.issues[0]?.message ?? '');
  return text;
}

interface ContainerFile {
  readonly text: string;
  /** Absent where it came from standard input. */
  readonly path?: string;
}

interface ContainerFilePlaces {
  /** The value of -f: a path, or `-` for standard input. */
  readonly file: string | undefined;
  /** The directory of the build context, if it is one. */
  readonly directory: string | undefined;
  readonly stdin: Readable;
}

const NAMES = ['Containerfile', 'Dockerfile'] as const;

/** The file given by -f, else the Containerfile or Dockerfile in the directory. Throws NothingToSend. */
async function readContainerFile({ file, directory, stdin }: ContainerFilePlaces): Promise<ContainerFile> {
  if (file === '-') return { text: await text(stdin) };
  if (file !== undefined) return (await find(file)) ?? refuse(`there is no ${file}`);
  if (directory === undefined)
    return refuse('nothing to build: give a directory, such as ".", or a Containerfile with -f');
  for (const name of NAMES) {
    const found = await find(join(directory, name));
    if (found) return found;
  }
  return refuse(`there is no ${NAMES.join(' and no ')} in ${directory}: name it with -f`);
}

async function find(path: string): Promise<ContainerFile | undefined> {
  try {
    return { text: await readFile(path, 'utf8'), path };
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw describeFault(cause, path);
  }
}

function refuse(message: string): never {
  throw new NothingToSend(message);
}
