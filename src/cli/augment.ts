// `veneer augment`: has a running service put layers and settings on top of an image that exists.
import { mkdtempDisposable } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { packLayer } from '../builds/context/layer-directory.ts';
import { openArchive } from './archive.ts';
import { type AugmentCommandOptions, augmentRequestOf, type SentLayer } from './augment-request.ts';
import { collect, collectEnv, collectPair, collectPlatforms, collectWords, parseTargetName } from './image-options.ts';
import { collectLayers, type LayerOption } from './layer-option.ts';
import { addOutcomeOptions, tellOutcome } from './outcome.ts';
import { explain } from './output.ts';
import { createSender, type Send } from './sender.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

/** A layer that the service fetches itself. */
const REMOTE = /^(?:https?|oci|docker):\/\//;

export function createAugmentCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('augment')
    .description('puts layers and settings on top of an image, and prints the reference to pull')
    .argument('<image>', 'the image, such as docker.io/library/alpine:3')
    .option(
      '--platform <platforms>',
      'serves these alone, such as linux/amd64,linux/arm64 (default: all)',
      collectPlatforms,
    )
    .option('--env <key=value>', 'an environment variable; may be there several times', collectEnv)
    .option('--label <key=value>', 'a label; may be there several times', collectPair)
    .option(
      '--entrypoint <word>',
      'a word of the entrypoint, or all as a JSON list; may be there several times',
      collectWords,
    )
    .option('--cmd <word>', 'a word of the command, or all as a JSON list; may be there several times', collectWords)
    .option('--workdir <directory>', 'the working directory')
    .option('--user <user>', 'the user')
    .option('--port <port>', 'a port that is exposed, such as 80/tcp; may be there several times', collect)
    .option('--annotation <key=value>', 'an annotation of each manifest; may be there several times', collectPair)
    .option(
      '--layer <place>',
      'a directory, a tar or a URL of one, with :linux/arm64 for that platform alone; in order',
      collectLayers,
    )
    .option('--include <image>', 'an image whose layers go on top; may be there several times', collect)
    .option('-t, --tag <name>', 'REPOSITORY[:TAG] where the image is pushed; implies --freeze', parseTargetName)
    .option('--freeze', 'pushes the augmented image, so that its name has no token that ends')
    .option('--mirror', 'pushes a copy of the image as it is');
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
    await tellOutcome(self, builds, deps, submitted);
  });
}

async function sendLayers(layers: readonly LayerOption[], send: Send): Promise<readonly SentLayer[]> {
  await using folder = await mkdtempDisposable(join(tmpdir(), 'veneer-layers-'));
  const sent: SentLayer[] = [];
  for (const { place, platforms } of layers) {
    const bytes = REMOTE.test(place)
      ? { location: place }
      : await send(`the layer ${place}`, await openArchive(place, packLayer, folder.path));
    sent.push({ ...bytes, platforms });
  }
  return sent;
}
