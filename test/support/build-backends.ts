// Builders that need no builder: they push images of the seeded generator to a registry in memory.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Backend, BuildInput, BuildOptions } from '../../src/builds/backend.ts';
import type { BaseImages, OpenDestination } from '../../src/builds/images.ts';
import { type ContainerFileSpec, specSchema } from '../../src/builds/spec.ts';
import type { Digest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { formatPlatform, parsePlatform } from '../../src/oci/platform.ts';
import { type Content, type GeneratedImage, generateImage, type ImageOptions } from './images.ts';

export interface MemoryRegistry {
  readonly openDestination: OpenDestination;
  readonly images: Pick<BaseImages, 'resolve' | 'open'>;
  /** By `<repository>:<tag>`. */
  readonly tags: Map<string, Digest>;
  /** Throws unless it is there. */
  read(digest: Digest): Content;
  put(image: string, generated: GeneratedImage): Digest;
}

export function createMemoryRegistry(): MemoryRegistry {
  const contents = new Map<string, Content>();
  const tags = new Map<string, Digest>();

  function read(digest: Digest): Content {
    const content = contents.get(digest);
    if (content) return content;
    throw new RegistryError('MANIFEST_UNKNOWN', `there is no ${digest}`);
  }

  function readManifest(digest: Digest) {
    const { raw, mediaType } = read(digest);
    return parseManifest(raw, mediaType, digest);
  }

  return {
    tags,
    read,
    put(image, { root, content }) {
      for (const [digest, value] of content) contents.set(digest, value);
      tags.set(image, root.digest);
      return root.digest;
    },
    images: {
      async resolve(reference) {
        const digest = tags.get(reference);
        if (digest) return digest;
        throw new RegistryError('MANIFEST_UNKNOWN', `there is no ${reference}`);
      },
      open: async (_reference, root) => ({
        root: readManifest(root),
        readManifest: async ({ digest }) => readManifest(digest),
        readConfig: async ({ digest }) => read(digest).raw,
        openBlob: async digest => ReadableStream.from([read(digest).raw]),
      }),
    },
    openDestination: repository => ({
      repository,
      hasBlob: async digest => contents.has(digest),
      async putBlob({ digest, mediaType }, open) {
        contents.set(digest, { mediaType, raw: await new Response(await open()).bytes() });
      },
      async putManifest({ raw, mediaType, digest, tags: names }) {
        contents.set(digest, { raw, mediaType });
        for (const tag of names) tags.set(`${repository}:${tag}`, digest);
      },
      findTag: async tag => tags.get(`${repository}:${tag}`),
    }),
  };
}

export interface BackendOptions {
  readonly registry: MemoryRegistry;
  readonly name?: string;
  readonly platforms?: readonly string[];
  readonly isMultiPlatform?: boolean;
  readonly unsupportedReason?: string;
  /** Of the images that it pushes. */
  readonly image?: Partial<ImageOptions>;
  /** Called before anything is pushed; what it throws is the build's end. */
  readonly onBuild?: (order: BuildInput, options: BuildOptions) => Promise<void> | void;
  /** Instead of what it can build: throws, or takes its time. */
  readonly listPlatforms?: Backend['listPlatforms'];
  /** Instead of the digest that it pushed. */
  readonly reports?: Digest;
}

export interface MemoryBackend extends Backend {
  /** What it was asked to build, and the files that lay in the order's folder. */
  readonly orders: readonly SeenOrder[];
}

interface SeenOrder {
  readonly order: BuildInput;
  readonly platforms: readonly string[];
  readonly containerFile: string;
  readonly context: readonly string[];
}

export function createMemoryBackend(options: BackendOptions): MemoryBackend {
  const { name = 'memory', platforms = ['linux/amd64'], isMultiPlatform = true, registry } = options;
  const orders: SeenOrder[] = [];
  return {
    name,
    kind: 'embedded',
    isMultiPlatform,
    orders,
    listPlatforms: options.listPlatforms ?? (async () => platforms.map(parsePlatform)),
    findUnsupportedReason: () => options.unsupportedReason,
    async build(order, buildOptions) {
      orders.push(await see(order));
      await options.onBuild?.(order, buildOptions);
      buildOptions.signal.throwIfAborted();
      const generated = generate(order, options.image);
      const digest = registry.put(order.target.image, generated);
      return { digest: options.reports ?? digest };
    },
    close: async () => {},
  };
}

async function see(order: BuildInput): Promise<SeenOrder> {
  return {
    order,
    platforms: order.platforms.map(formatPlatform),
    containerFile: await readFile(join(order.directory, 'Containerfile'), 'utf8'),
    context: await readdir(join(order.directory, 'context')),
  };
}

function generate({ platforms, spec }: BuildInput, options: Partial<ImageOptions> = {}): GeneratedImage {
  const attestations = spec.attestations.sbom || spec.attestations.provenance !== 'none';
  return generateImage({
    seed: 1,
    platforms: platforms.map(formatPlatform),
    layers: 1,
    family: 'oci',
    index: platforms.length > 1 || attestations,
    attestations,
    ...options,
  });
}

/** A spec of a Containerfile for `local/builds:app`. */
export function parseSpec(fields: Readonly<Record<string, unknown>> = {}): ContainerFileSpec {
  const spec = specSchema.parse({
    kind: 'containerfile',
    containerFile: 'FROM scratch\n',
    platforms: ['linux/amd64'],
    bases: {},
    target: { repository: 'local/builds', tag: 'app' },
    ...fields,
  });
  if (spec.kind !== 'containerfile') throw new Error('not the spec of a Containerfile');
  return spec;
}
