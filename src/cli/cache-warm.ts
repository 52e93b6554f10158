// `veneer cache warm`: pulls images through the service, so that the next pull finds them there.
import { Command } from 'commander';
import { RegistryError } from '../oci/errors.ts';
import { InvalidPlatform, type Platform, parsePlatforms } from '../oci/platform.ts';
import { formatSize } from '../oci/size.ts';
import { explain, print } from './output.ts';
import { plainText } from './plain-text.ts';
import { type Service, ServiceRefused } from './service/service.ts';
import { type WarmProgress, warmImage } from './service/warm.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

interface WarmOptions {
  readonly platform?: string;
}

export function createWarmCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('warm')
    .description('pulls images through the service: their manifests, configs and layers are kept then')
    .argument('<images...>', 'such as docker.io/library/alpine:3')
    .option('--platform <platforms>', 'these alone, such as linux/amd64,linux/arm64; default: all')
    .action((images: readonly string[], options: WarmOptions, self: Command) =>
      callService(self, deps, ({ service }) => warmAll(self, { service, images, options, terminal: deps.terminal })),
    );
  return addServerOption(command);
}

interface Warming {
  readonly service: Service;
  readonly images: readonly string[];
  readonly options: WarmOptions;
  readonly terminal: NodeJS.WritableStream | undefined;
}

/** What cannot be had keeps no other image from being pulled. */
async function warmAll(self: Command, { service, images, options, terminal }: Warming): Promise<void> {
  const platforms = parseWanted(options.platform);
  const failed: string[] = [];
  for (const image of images) {
    const onProgress = (progress: WarmProgress) => void terminal?.write(`\r\u001b[K${formatProgress(image, progress)}`);
    try {
      const done = await warmImage(service, image, { platforms, onProgress });
      terminal?.write('\r\u001b[K');
      print(self, plainText(formatProgress(image, done)));
    } catch (error) {
      terminal?.write('\r\u001b[K');
      const isTold = error instanceof RegistryError || (error instanceof ServiceRefused && !error.isUnreachable);
      if (!isTold) throw error;
      failed.push(image);
      explain(self, plainText(`${image}: ${error.message}`));
    }
  }
  if (failed.length > 0) throw new ServiceRefused(`could not pull ${failed.length} of ${images.length} images`);
}

function parseWanted(text: string | undefined): readonly Platform[] | undefined {
  try {
    return text === undefined ? undefined : parsePlatforms(text);
  } catch (error) {
    if (error instanceof InvalidPlatform) throw new ServiceRefused(`--platform: ${error.message}`);
    throw error;
  }
}

function formatProgress(image: string, { manifests, blobs, totalBlobs, bytes }: WarmProgress): string {
  return `${image}: ${manifests} manifests, ${blobs} of ${totalBlobs} blobs, ${formatSize(bytes)}`;
}
