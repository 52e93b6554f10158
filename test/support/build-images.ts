// Images of given files in memory, and a destination beside them: what a build reads from and pushes to, with real bytes.
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import type { BaseImages, Destination, OpenDestination } from '../../src/builds/images.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { parsePlatform } from '../../src/oci/platform.ts';
import type { Content } from './images.ts';

export type TarFile = Partial<Header> & { readonly name: string; readonly body?: string };

interface MadeImage {
  readonly platforms: readonly string[];
  /** Of each image, from below; a tar that is given is taken as it is. */
  readonly layers?: readonly (readonly TarFile[] | Uint8Array)[];
  /** The `config` of each image's config. */
  readonly run?: Readonly<Record<string, unknown>>;
  /** Whether the root is the image of the only platform. */
  readonly isSingle?: boolean;
}

export interface ImageStore {
  readonly images: BaseImages;
  readonly openDestination: OpenDestination;
  /** What the destination was asked to keep, in order: `blob <digest>`, `manifest <digest>`, and `tag <name>`. */
  readonly pushes: readonly string[];
  /** What was opened, in order. */
  readonly opened: readonly Digest[];
  /** By `<repository>:<tag>`, of what was pushed. */
  readonly tags: ReadonlyMap<string, ContentDescriptor>;
  read(descriptor: Pick<ContentDescriptor, 'digest'>): Uint8Array;
  /** Makes an image that bases can name. */
  make(reference: string, image: MadeImage): Promise<Digest>;
}

export function createImageStore(): ImageStore {
  const contents = new Map<string, Content>();
  const references = new Map<string, Digest>();
  const tags = new Map<string, ContentDescriptor>();
  const pushed = new Set<Digest>();
  const pushes: string[] = [];
  const opened: Digest[] = [];

  function find(digest: Digest): Content {
    const content = contents.get(digest);
    if (content) return content;
    throw new RegistryError('MANIFEST_UNKNOWN', `there is no ${digest}`);
  }

  function add(mediaType: string, raw: Uint8Array): ContentDescriptor {
    const digest = digestOf(raw);
    contents.set(digest, { mediaType, raw });
    return { mediaType, digest, size: raw.byteLength };
  }

  const addJson = (mediaType: string, value: object) => add(mediaType, new TextEncoder().encode(JSON.stringify(value)));

  async function addImage(platform: string, { layers = [], run = {} }: MadeImage): Promise<ContentDescriptor> {
    const tars = await Promise.all(layers.map(layer => (layer instanceof Uint8Array ? layer : packTar(layer))));
    const config = addJson(mediaTypes.ociConfig, {
      ...parsePlatform(platform),
      config: run,
      rootfs: { type: 'layers', diff_ids: tars.map(tar => digestOf(tar)) },
      history: tars.map(() => ({ created_by: 'made' })),
    });
    const packed = tars.map(tar => add('application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(tar)));
    const mediaType = mediaTypes.ociManifest;
    return addJson(mediaType, { schemaVersion: 2, mediaType, config, layers: packed });
  }

  function openDestination(repository: string): Destination {
    return {
      repository,
      hasBlob: async digest => pushed.has(digest),
      async putBlob({ digest, mediaType }, open) {
        if (pushed.has(digest)) return;
        const raw = new Uint8Array(await new Response(await open()).arrayBuffer());
        if (digestOf(raw) !== digest) throw new RegistryError('DIGEST_INVALID', `the bytes are not ${digest}`);
        contents.set(digest, { mediaType, raw });
        pushed.add(digest);
        pushes.push(`blob ${digest}`);
      },
      async putManifest({ raw, mediaType, digest, tags: names }) {
        contents.set(digest, { mediaType, raw });
        pushes.push(`manifest ${digest}`, ...names.map(name => `tag ${name}`));
        for (const name of names) tags.set(`${repository}:${name}`, { mediaType, digest, size: raw.byteLength });
      },
      findTag: async tag => tags.get(`${repository}:${tag}`)?.digest,
    };
  }

  function readManifest(digest: Digest) {
    const { raw, mediaType } = find(digest);
    return parseManifest(raw, mediaType, digest);
  }

  return {
    pushes,
    opened,
    tags,
    read: ({ digest }) => find(digest).raw,
    async make(reference, image) {
      const manifests = await Promise.all(image.platforms.map(platform => addImage(platform, image)));
      const entries = manifests.map((manifest, i) => ({
        ...manifest,
        platform: parsePlatform(image.platforms[i] ?? ''),
      }));
      const index = { schemaVersion: 2, mediaType: mediaTypes.ociIndex, manifests: entries };
      const root = (image.isSingle ? manifests[0] : undefined) ?? addJson(mediaTypes.ociIndex, index);
      references.set(reference, root.digest);
      return root.digest;
    },
    openDestination,
    images: {
      async resolve(reference) {
        const digest = references.get(reference);
        if (digest) return digest;
        throw new RegistryError('MANIFEST_UNKNOWN', `there is no ${reference}`);
      },
      open: async (_reference, root) => ({
        root: readManifest(root),
        readManifest: async ({ digest }) => readManifest(digest),
        readConfig: async ({ digest }) => find(digest).raw,
        async openBlob(digest) {
          opened.push(digest);
          return ReadableStream.from([find(digest).raw]);
        },
      }),
    },
  };
}

/** A tar of the files in the given order. */
export async function packTar(files: readonly TarFile[]): Promise<Uint8Array> {
  const archive = pack();
  for (const { body = '', ...header } of files) archive.entry({ mtime: new Date(0), ...header }, body);
  archive.finalize();
  return buffer(archive);
}
