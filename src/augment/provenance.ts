// Provenance: for each image that was made, an artifact about it that tells from what, and how. Pure, and of the steps alone: where the bytes
// of layers are is not told, for an address may hold a secret. image-spec manifest.md, "Guidelines for Artifact Usage".
import type { ContentDescriptor } from '../oci/descriptor.ts';
import { type Digest, digestOf } from '../oci/digest.ts';
import { mediaTypes } from '../oci/media-type.ts';
import { formatPlatform, normalizePlatform, type Platform } from '../oci/platform.ts';
import type { Augmented } from './augment.ts';
import { type Augmentation, type Step, type Steps, stepsFor, stepsSchema } from './augmentation.ts';
import { createDocument, type Document } from './document.ts';
import { layersFor } from './image.ts';
import { toJson } from './json.ts';
import { readable } from './placement.ts';
import type { MovedLayer } from './source.ts';
/** The type of the artifact, and of the JSON in it. */
export const PROVENANCE_TYPE = 'application/vnd.veneer.provenance.v1+json';

/** What clients name the JSON when they write it to a file. */
const TITLE = { 'org.opencontainers.image.title': 'provenance.json' };

export interface Provenance {
  /** What it is about. */
  readonly subject: Digest;
  /** Of the artifact, as lists of referrers have it. */
  readonly descriptor: ContentDescriptor & { readonly artifactType: string };
  /** The artifact's manifest, and the two blobs that this names. */
  readonly documents: readonly Document[];
}

interface ProvenanceSource {
  /** registry/repository[:tag], as it was asked for: nothing else that is made tells it. */
  readonly name: string;
  /** What the name led to. */
  readonly digest: Digest;
}

/** Of the root and of every image, where it was made; nothing for what stayed as it was. Equal input gives equal bytes. */
export function createProvenance(
  source: ProvenanceSource,
  { root, documents, images }: Augmented,
  steps: Steps,
): readonly Provenance[] {
  const made = new Map(documents.map(document => [document.digest, document]));
  // Whoever stores steps gets them back with their keys in the schema's order.
  const ordered = stepsSchema.parse(steps);
  const isImage = images.some(({ target }) => target === root.digest);
  const ofRoot = made.has(root.digest) && !isImage ? [createArtifact(root, tellIndex(source, ordered))] : [];
  const ofImages = images.flatMap(image => {
    const target = made.get(image.target);
    return target ? [createArtifact(target, tellImage(source, image, ordered))] : [];
  });
  return [...new Map([...ofRoot, ...ofImages].map(each => [each.descriptor.digest, each])).values()];
}

function tellIndex(source: ProvenanceSource, steps: Steps): object {
  const told = steps.map(({ rule, platforms, augmentation }) => ({ rule, platforms, changes: augmentation }));
  return { source, rules: rulesOf(steps), steps: told };
}

/** Only what changed this image. `index` is what the name led to, where that is not the image. */
function tellImage({ name, digest }: ProvenanceSource, image: Augmented['images'][number], steps: Steps): object {
  const { platform, moved } = image;
  const own = stepsFor(steps, platform);
  const source = { name, digest: image.source, ...(image.source !== digest && { index: digest }) };
  const told = own.map(({ rule, augmentation }) => ({ rule, changes: changesOf(augmentation, platform) }));
  const of = { source, platform: formatPlatform(normalizePlatform(platform)), rules: rulesOf(own), steps: told };
  return moved.length === 0 ? of : { ...of, moved: moved.map(tellMoved) };
}

/** A layer that the image has in place of one of the steps, and which of its directories are links in the image. */
function tellMoved({ source: { digest, inner, placement } }: MovedLayer): object {
  const directories = placement.moves.map(({ from, to }) => ({ from: readable(from), to: readable(to) }));
  return { layer: inner.digest, digest, directories };
}

function changesOf(augmentation: Augmentation, platform: Platform): object {
  const { platforms: _, attestations: __, ...changes } = augmentation;
  return { ...changes, layers: layersFor(augmentation, platform) };
}

function rulesOf(steps: readonly Step[]): readonly string[] {
  return [...new Set(steps.flatMap(({ rule }) => rule ?? []))];
}

function createArtifact({ mediaType, digest, size }: ContentDescriptor, told: object): Provenance {
  const config = encode(mediaTypes.ociEmpty, {});
  const payload = encode(PROVENANCE_TYPE, told);
  const manifest = createDocument(
    mediaTypes.ociManifest,
    toJson({
      schemaVersion: 2,
      mediaType: mediaTypes.ociManifest,
      artifactType: PROVENANCE_TYPE,
      config: descriptorOf(config),
      layers: [{ ...descriptorOf(payload), annotations: TITLE }],
      subject: { mediaType, digest, size },
    }),
  );
  return {
    subject: digest,
    descriptor: { ...descriptorOf(manifest), artifactType: PROVENANCE_TYPE },
    documents: [manifest, payload, config],
  };
}

/** A blob may be larger than a manifest. */
function encode(mediaType: string, value: object): Document {
  const raw = new TextEncoder().encode(JSON.stringify(value));
  return { mediaType, digest: digestOf(raw), size: raw.byteLength, raw };
}

function descriptorOf({ mediaType, digest, size }: ContentDescriptor): ContentDescriptor {
  return { mediaType, digest, size };
}
