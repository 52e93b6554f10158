// `veneer cache warm`: pulls images through the service to fill its cache.
import { Command } from 'commander';
import pLimit from 'p-limit';
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { RegistryError } from '../oci/errors.ts';
import { MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../oci/manifest.ts';
import { ACCEPT_MANIFESTS, isNondistributableType } from '../oci/media-type.ts';
import {
  formatPlatform,
  InvalidPlatform,
  isSamePlatform,
  normalizePlatform,
  type Platform,
  parsePlatforms,
} from '../oci/platform.ts';
import { parseReference, tagOrDigest } from '../oci/reference.ts';
import { ContentMismatch, createVerifier, type Expected } from '../oci/verify.ts';
import { formatSize } from '../oci/wording.ts';
import { explain, plainText, print } from './output.ts';
import { refusalOf, type Service, ServiceRefused, sendRequest } from './service/service.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

interface WarmCommandOptions {
  readonly platform?: string;
  readonly json?: boolean;
}

export function createWarmCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('warm')
    .description('pulls images through the service, so that their manifests, configs and layers are cached')
    .argument('<images...>', 'such as docker.io/library/alpine:3')
    .option('--platform <platforms>', 'only these, such as linux/amd64,linux/arm64; default: all')
    .option('--json', 'prints a line of JSON for each image')
    .action((images: readonly string[], options: WarmCommandOptions, self: Command) =>
      callService(self, deps, ({ service }) => warmAll(self, { service, images, options, terminal: deps.terminal })),
    );
  return addServerOption(command);
}

interface Warming {
  readonly service: Service;
  readonly images: readonly string[];
  readonly options: WarmCommandOptions;
  readonly terminal: NodeJS.WritableStream | undefined;
}

/** An unavailable image does not prevent the others from being pulled. */
async function warmAll(self: Command, { service, images, options, terminal }: Warming): Promise<void> {
  const platforms = parseWanted(options.platform);
  const failed: string[] = [];
  for (const image of images) {
    const onProgress = (progress: WarmProgress) => void terminal?.write(`\r\u001b[K${formatProgress(image, progress)}`);
    try {
      const done = await warmImage(service, image, { platforms, onProgress });
      terminal?.write('\r\u001b[K');
      print(self, options.json ? JSON.stringify({ image, ...done }) : plainText(formatProgress(image, done)));
    } catch (error) {
      terminal?.write('\r\u001b[K');
      const isExpected = error instanceof RegistryError || (error instanceof ServiceRefused && !error.isUnreachable);
      if (!isExpected) throw error;
      failed.push(image);
      if (options.json) print(self, JSON.stringify({ image, error: error.message }));
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

// A pull that stores nothing here: everything that an image leads to is read through the service, and verified.

interface WarmProgress {
  readonly manifests: number;
  readonly blobs: number;
  readonly totalBlobs: number;
  /** Of blobs. */
  readonly bytes: number;
}

interface WarmOptions {
  /** Of an index; absent: all. */
  readonly platforms?: readonly Platform[] | undefined;
  readonly onProgress?: (progress: WarmProgress) => void;
}

const MAX_DEPTH = 4;
const MAX_MANIFESTS = 512;
const BLOBS_AT_ONCE = 4;

/** Throws RegistryError for an invalid image name, and ServiceRefused for one that cannot be pulled completely. */
async function warmImage(service: Service, image: string, options: WarmOptions): Promise<WarmProgress> {
  const reference = parseReference(image);
  const name = reference.registry ? `${reference.registry}/${reference.repository}` : reference.repository;
  const path = `/v2/${name}`;
  const manifests = await readTree({ service, path, ...options }, tagOrDigest(reference));
  const blobs = new Map(manifests.flatMap(blobsOf).map(blob => [blob.digest, blob]));
  let progress: WarmProgress = { manifests: manifests.length, blobs: 0, totalBlobs: blobs.size, bytes: 0 };
  const update = (change: Partial<WarmProgress>) => {
    progress = { ...progress, ...change };
    options.onProgress?.(progress);
  };
  update({});
  const limit = pLimit(BLOBS_AT_ONCE);
  const reading = [...blobs.values()].map(blob =>
    limit(async () => {
      await readAll(await ask(service, `${path}/blobs/${blob.digest}`), blob, chunk =>
        update({ bytes: progress.bytes + chunk.byteLength }),
      );
      update({ blobs: progress.blobs + 1 });
    }),
  );
  await Promise.all(reading).finally(() => limit.clearQueue());
  return progress;
}

interface Tree extends Pick<WarmOptions, 'platforms'> {
  readonly service: Service;
  readonly path: string;
}

/** The named manifest, and everything that it leads to on the selected platforms. */
async function readTree(tree: Tree, root: string): Promise<readonly Manifest[]> {
  const { platforms } = tree;
  const found: Manifest[] = [];
  await visit(root, undefined, 1);
  const isImage = found.some(({ kind }) => kind === 'image');
  const seen = found.flatMap(manifest => (manifest.kind === 'index' ? manifest.manifests : []));
  if (platforms && !isImage && seen.length > 0) {
    const there = seen.flatMap(({ platform }) => (platform ? [formatPlatform(normalizePlatform(platform))] : []));
    throw new ServiceRefused(
      `there is no image for ${platforms.map(formatPlatform).join(', ')}; there are ${there.join(', ')}`,
    );
  }
  return found;

  async function visit(named: string, expected: Expected | undefined, depth: number): Promise<void> {
    if (depth > MAX_DEPTH || found.length >= MAX_MANIFESTS)
      throw new ServiceRefused('its indexes lead to too many manifests');
    const manifest = await readManifest(tree, named, expected);
    found.push(manifest);
    if (manifest.kind !== 'index') return;
    for (const entry of manifest.manifests) {
      const isWanted = !platforms || !entry.platform || platforms.some(each => isFor(entry.platform, each));
      if (isWanted) await visit(entry.digest, entry, depth + 1);
    }
  }
}

function isFor(platform: Platform | undefined, wanted: Platform): boolean {
  return platform !== undefined && isSamePlatform(normalizePlatform(platform), wanted);
}

async function readManifest({ service, path }: Tree, named: string, expected: Expected | undefined): Promise<Manifest> {
  const response = await ask(service, `${path}/manifests/${named}`, { Accept: ACCEPT_MANIFESTS });
  const chunks: Uint8Array[] = [];
  let size = 0;
  await readAll(response, expected, chunk => {
    size += chunk.byteLength;
    if (size > MAX_MANIFEST_BYTES) throw new ServiceRefused(`a manifest has more than ${MAX_MANIFEST_BYTES} bytes`);
    chunks.push(chunk);
  });
  return parseManifest(Buffer.concat(chunks), response.headers.get('Content-Type') ?? '');
}

function blobsOf(manifest: Manifest): readonly ContentDescriptor[] {
  if (manifest.kind !== 'image') return [];
  return [manifest.config, ...manifest.layers.filter(({ mediaType }) => !isNondistributableType(mediaType))];
}

async function ask(service: Service, path: string, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
  const response = await sendRequest(service, path, { headers });
  if (!response.ok) throw await refusalOf(response, { 401: 'set VENEER_TOKEN', 403: 'set VENEER_TOKEN' });
  return response;
}

/** Reads a body to its end, verified where its digest is known. */
async function readAll(
  { body, url }: Response,
  expected: Expected | undefined,
  onChunk: (chunk: Uint8Array) => void,
): Promise<void> {
  const verifier = expected && createVerifier({ digest: expected.digest, size: expected.size });
  try {
    for await (const chunk of body ?? []) {
      verifier?.update(chunk);
      onChunk(chunk);
    }
    verifier?.finish();
  } catch (cause) {
    if (cause instanceof ServiceRefused) throw cause;
    const reason = cause instanceof ContentMismatch ? cause.message : 'was cut off';
    throw new ServiceRefused(`${new URL(url).pathname} ${reason}`, { cause, isTransient: true });
  }
}
