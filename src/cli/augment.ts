// `veneer augment`: has a running service add layers and settings to an existing image.
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { packLayer } from '../builds/context/layer-directory.ts';
import { formatPlatform, InvalidPlatform, parsePlatforms } from '../oci/platform.ts';
import {
  collect,
  collectEnv,
  collectPair,
  collectPlatforms,
  collectWords,
  parseTargetName,
  type TargetName,
  targetOf,
} from './image-options.ts';
import { addOutcomeOptions, printOutcome } from './outcome.ts';
import { explain } from './output.ts';
import { createSender, openArchive, type Send, type UploadContent } from './sender.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

/** A layer that the service fetches itself. */
const REMOTE = /^(?:https?|oci|docker):\/\//;

export function createAugmentCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('augment')
    .description('adds layers and settings to an image, and prints the reference to pull')
    .argument('<image>', 'the image, such as docker.io/library/alpine:3')
    .option(
      '--platform <platforms>',
      'serves only these, such as linux/amd64,linux/arm64 (default: all)',
      collectPlatforms,
    )
    .option('--env <key=value>', 'an environment variable; may be given several times', collectEnv)
    .option('--label <key=value>', 'a label; may be given several times', collectPair)
    .option(
      '--entrypoint <word>',
      'an argument of the entrypoint, or all as a JSON list; may be given several times',
      collectWords,
    )
    .option(
      '--cmd <word>',
      'an argument of the command, or all as a JSON list; may be given several times',
      collectWords,
    )
    .option('--workdir <directory>', 'the working directory')
    .option('--user <user>', 'the user')
    .option('--port <port>', 'an exposed port, such as 80/tcp; may be given several times', collect)
    .option('--annotation <key=value>', 'an annotation of each manifest; may be given several times', collectPair)
    .option(
      '--layer <place>',
      'a directory, a tar or the URL of one; append :linux/arm64 for that platform only; in order',
      collectLayers,
    )
    .option('--include <image>', 'an image whose layers are appended; may be given several times', collect)
    .option('-t, --tag <name>', 'REPOSITORY[:TAG] where the image is pushed; implies --freeze', parseTargetName)
    .option('--freeze', 'pushes the augmented image, so that its name has no expiring token')
    .option('--mirror', 'pushes an unchanged copy of the image');
  return addServerOption(addOutcomeOptions(command)).action((image: string, _, self: Command) =>
    augment(self, deps, image),
  );
}

async function augment(self: Command, deps: ServiceCommandDeps, image: string): Promise<void> {
  const options = self.opts<AugmentCommandOptions>();
  await callService(self, deps, async ({ service, builds }) => {
    const send = createSender(service, { ...deps, explain: line => explain(self, line) });
    const layers = await sendLayers(options.layer ?? [], send);
    const submitted = await builds.submit(augmentRequestOf(image, options, layers));
    await printOutcome(self, builds, deps, submitted);
  });
}

async function sendLayers(layers: readonly LayerOption[], send: Send): Promise<readonly SentLayer[]> {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'veneer-layers-'));
  const sent: SentLayer[] = [];
  for (const { location, platforms } of layers) {
    const bytes = REMOTE.test(location)
      ? { location }
      : await send(`the layer ${location}`, await openArchive(location, packLayer, folder.path));
    sent.push({ ...bytes, platforms });
  }
  return sent;
}

interface AugmentCommandOptions {
  readonly platform?: readonly string[];
  readonly env?: readonly string[];
  readonly label?: Readonly<Record<string, string>>;
  readonly entrypoint?: readonly string[];
  readonly cmd?: readonly string[];
  readonly workdir?: string;
  readonly user?: string;
  readonly port?: readonly string[];
  readonly annotation?: Readonly<Record<string, string>>;
  readonly layer?: readonly LayerOption[];
  readonly include?: readonly string[];
  readonly tag?: TargetName;
  readonly freeze?: boolean;
  readonly mirror?: boolean;
}

interface SentLayer extends UploadContent {
  readonly platforms?: readonly string[] | undefined;
}

/** The body of the request, docs/api.md "Submit". Undefined fields are not sent. */
function augmentRequestOf(image: string, options: AugmentCommandOptions, layers: readonly SentLayer[]): object {
  const containerConfig = {
    env: options.env,
    labels: options.label,
    entrypoint: options.entrypoint,
    cmd: options.cmd,
    workingDir: options.workdir,
    user: options.user,
    exposedPorts: options.port,
    annotations: options.annotation,
    layers: layers.length > 0 ? layers : undefined,
  };
  const isChanged = Object.values(containerConfig).some(change => change !== undefined);
  return {
    containerImage: image,
    containerPlatform: options.platform?.join(','),
    containerConfig: isChanged ? containerConfig : undefined,
    containerIncludes: options.include,
    ...targetOf(options.tag, options.freeze ?? (options.mirror ? false : undefined)),
    mirror: options.mirror,
  };
}

/** `--layer DIR|TAR|URL[:platforms]`. */
interface LayerOption {
  /** A path of this machine, or a URL that the service fetches. */
  readonly location: string;
  /** Only these platforms get it; absent: all. */
  readonly platforms?: readonly string[];
}

/** Ports and digests have colons, too, so a platform must include its os. */
const WITH_PLATFORMS = /^(.+):((?:linux|windows|freebsd|darwin)\/[^:]+)$/;

function collectLayers(text: string, before: readonly LayerOption[] = []): readonly LayerOption[] {
  if (text === '') throw new InvalidArgumentError('expected a directory, a tar or a URL');
  return [...before, parseLayer(text)];
}

function parseLayer(text: string): LayerOption {
  const [, location, platforms] = WITH_PLATFORMS.exec(text) ?? [];
  if (location === undefined || platforms === undefined) return { location: text };
  return { location, platforms: readPlatforms(platforms) };
}

function readPlatforms(text: string): readonly string[] {
  try {
    return parsePlatforms(text).map(formatPlatform);
  } catch (error) {
    if (error instanceof InvalidPlatform) throw new InvalidArgumentError(error.message);
    throw error;
  }
}
