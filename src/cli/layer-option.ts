// `--layer DIR|TAR|URL[:platforms]` of `veneer augment`.
import { InvalidArgumentError } from 'commander';
import { formatPlatform, InvalidPlatform, parsePlatforms } from '../oci/platform.ts';

export interface LayerOption {
  /** A path of this machine, or a URL that the service fetches. */
  readonly place: string;
  /** Only these platforms get it; absent: all. */
  readonly platforms?: readonly string[];
}

/** A port and a digest have colons, too, so a platform is written with its os. */
const WITH_PLATFORMS = /^(.+):((?:linux|windows|freebsd|darwin)\/[^:]+)$/;

export function collectLayers(text: string, before: readonly LayerOption[] = []): readonly LayerOption[] {
  if (text === '') throw new InvalidArgumentError('expected a directory, a tar or a URL');
  return [...before, parseLayer(text)];
}

function parseLayer(text: string): LayerOption {
  const [, place, platforms] = WITH_PLATFORMS.exec(text) ?? [];
  if (place === undefined || platforms === undefined) return { place: text };
  return { place, platforms: readPlatforms(platforms) };
}

function readPlatforms(text: string): readonly string[] {
  try {
    return parsePlatforms(text).map(formatPlatform);
  } catch (error) {
    if (error instanceof InvalidPlatform) throw new InvalidArgumentError(error.message);
    throw error;
  }
}
