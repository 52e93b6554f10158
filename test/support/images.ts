// Images from a seed: the same options give the same bytes. All shapes that registries hold, with small layers.
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { type Digest, digestOf } from '../../src/oci/digest.ts';
import { type Compression, type Family, layerType, mediaTypes } from '../../src/oci/media-type.ts';
import { parsePlatform } from '../../src/oci/platform.ts';

export interface ImageOptions {
  readonly seed: number;
  readonly platforms: readonly string[];
  /** Of each image. */
  readonly layers: number;
  /** mixed: every second image is Docker's, in an index of OCI. */
  readonly family: Family | 'mixed';
  /** False: the root is the image of the first platform. */
  readonly index?: boolean;
  /** The images from the second on are in an index of their own, below the root. */
  readonly nested?: boolean;
  /** An attestation entry after each image. */
  readonly attestations?: boolean;
  /** An artifact as the last entry. */
  readonly artifact?: boolean;
  /** The lowest layer of each image is one not to be distributed, with an address of its own. */
  readonly foreign?: boolean;
  /** Entries do not name their platform. */
  readonly noPlatform?: boolean;
  /** Entries do not name the type of what they point to. */
  readonly noEntryType?: boolean;
  /** Manifests and indexes do not name their own type. */
  readonly noMediaType?: boolean;
  /** Merged into the `config` of each image's config. */
  readonly run?: Readonly<Record<string, unknown>>;
  /** The layers of the images of these platforms, from below, in place of noise. */
  readonly tars?: Readonly<Record<string, readonly Uint8Array[]>>;
  /** Merged into each image's manifest. */
  readonly manifest?: Readonly<Record<string, unknown>>;
  /** How layers are packed. Default: as zlib does, whose bytes another version of it may make otherwise. */
  readonly pack?: (tar: Uint8Array, compression: Compression) => Uint8Array;
}

export interface Content {
  readonly mediaType: string;
  readonly raw: Uint8Array;
}

interface GeneratedDescriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
}

export interface GeneratedImage {
  readonly root: GeneratedDescriptor;
  readonly content: ReadonlyMap<string, Content>;
}

const TYPES = {
  oci: {
    index: mediaTypes.ociIndex,
    manifest: mediaTypes.ociManifest,
    config: mediaTypes.ociConfig,
    foreign: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  },
  docker: {
    index: mediaTypes.dockerList,
    manifest: mediaTypes.dockerManifest,
    config: mediaTypes.dockerConfig,
    foreign: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  },
} as const;

export function generateImage(options: ImageOptions): GeneratedImage {
  const content = new Map<string, Content>();
  const random = createRandom(options.seed);
  const rootFamily = options.family === 'docker' ? 'docker' : 'oci';
  const own = (mediaType: string) => (options.noMediaType ? {} : { mediaType });
  const images = options.platforms.map((platform, i) => addImage(platform, familyAt(options.family, i)));
  if (options.index === false && images[0]) return { root: images[0], content };
  const entries = images.map((image, i) => entriesOf(image, options.platforms[i] ?? ''));
  const top = options.nested ? [...(entries[0] ?? []), addIndex(entries.slice(1).flat())] : entries.flat();
  const root = addIndex(options.artifact ? [...top, addArtifact()] : top);
  return { root, content };

  function addImage(platform: string, family: Family): GeneratedDescriptor {
    const types = TYPES[family];
    const tars = options.tars?.[platform];
    const layers = Array.from({ length: tars?.length ?? options.layers }, (_, i) =>
      addLayer(family, { isForeign: i === 0 && options.foreign === true, tar: tars?.[i] }),
    );
    const config = addJson(types.config, {
      created: '2024-02-03T04:05:06Z',
      ...parsePlatform(platform),
      'x-unknown': { b: 1, a: [null, random()] },
      config: { Env: ['PATH=/usr/bin:/bin', 'LANG=C'], Cmd: ['sh'], ...options.run },
      rootfs: { type: 'layers', diff_ids: layers.map(layer => layer.diffId) },
      history: [
        ...layers.map((_, i) => ({ created_by: `layer ${i}` })),
        { created_by: 'CMD ["sh"]', empty_layer: true },
      ],
    });
    return addJson(types.manifest, {
      schemaVersion: 2,
      ...own(types.manifest),
      'x-unknown': random(),
      config,
      layers: layers.map(layer => layer.descriptor),
      ...options.manifest,
    });
  }

  function addLayer(family: Family, { isForeign, tar: given }: { isForeign: boolean; tar: Uint8Array | undefined }) {
    const compressions: readonly Compression[] = family === 'oci' ? ['gzip', 'zstd', 'none'] : ['gzip', 'none'];
    const compression = isForeign ? 'gzip' : (compressions[Math.floor(random() * compressions.length)] ?? 'gzip');
    const tar = given ?? new Uint8Array(512).map(() => Math.floor(random() * 256));
    const mediaType = isForeign ? TYPES[family].foreign : (layerType(family, compression) ?? '');
    const descriptor = add(mediaType, (options.pack ?? pack)(tar, compression));
    const urls = { urls: ['https://layers.example/1'] };
    return { descriptor: { ...descriptor, ...(isForeign && urls) }, diffId: digestOf(tar) };
  }

  function entriesOf(image: GeneratedDescriptor, platform: string): readonly object[] {
    const { mediaType, ...untyped } = image;
    const entry = {
      ...(options.noEntryType ? untyped : image),
      ...(!options.noPlatform && { platform: parsePlatform(platform) }),
      'x-unknown': true,
    };
    return options.attestations ? [entry, attestationOf(image)] : [entry];
  }

  function attestationOf(image: GeneratedDescriptor): object {
    const config = addJson(mediaTypes.ociConfig, {
      architecture: 'unknown',
      os: 'unknown',
      config: {},
      rootfs: { type: 'layers', diff_ids: [image.digest] },
    });
    const statement = add('application/vnd.in-toto+json', new TextEncoder().encode(`{"subject":"${image.digest}"}`));
    return {
      ...addJson(mediaTypes.ociManifest, { schemaVersion: 2, config, layers: [statement] }),
      annotations: {
        'vnd.docker.reference.type': 'attestation-manifest',
        'vnd.docker.reference.digest': image.digest,
      },
      platform: { architecture: 'unknown', os: 'unknown' },
    };
  }

  function addArtifact(): object {
    const config = add(mediaTypes.ociEmpty, new TextEncoder().encode('{}'));
    const mediaType = mediaTypes.ociManifest;
    return addJson(mediaType, { schemaVersion: 2, mediaType, artifactType: 'text/x', config, layers: [config] });
  }

  function addIndex(manifests: readonly object[]): GeneratedDescriptor {
    const { index } = TYPES[rootFamily];
    const document = { schemaVersion: 2, ...own(index), 'x-unknown': 'kept', manifests };
    return addJson(index, rootFamily === 'oci' ? { ...document, annotations: { a: 'b' } } : document);
  }

  function addJson(mediaType: string, value: object): GeneratedDescriptor {
    return add(mediaType, new TextEncoder().encode(JSON.stringify(value, null, 2)));
  }

  function add(mediaType: string, raw: Uint8Array): GeneratedDescriptor {
    const digest = digestOf(raw);
    content.set(digest, { mediaType, raw });
    return { mediaType, digest, size: raw.byteLength };
  }
}

function familyAt(family: ImageOptions['family'], at: number): Family {
  if (family !== 'mixed') return family;
  return at % 2 === 0 ? 'oci' : 'docker';
}

export function pack(tar: Uint8Array, compression: Compression): Uint8Array {
  if (compression === 'gzip') return gzipSync(tar);
  return compression === 'zstd' ? zstdCompressSync(tar) : tar;
}

/** Mulberry32: numbers in [0, 1), the same for the same seed. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
