// Provenance: an artifact for each derived image that records how it was made. Pure, and computed from the steps alone: addresses of layers
// are left out, since they may hold secrets. image-spec manifest.md, "Guidelines for Artifact Usage".
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
/** The artifact type, and the media type of its JSON. */
export const PROVENANCE_TYPE = 'application/vnd.veneer.provenance.v1+json';

/** The file name that clients use for the JSON. */
const TITLE = { 'org.opencontainers.image.title': 'provenance.json' };

export interface Provenance {
  /** Its subject. */
  readonly subject: Digest;
  /** The artifact's descriptor, as it appears in referrers lists. */
  readonly descriptor: ContentDescriptor & { readonly artifactType: string };
  /** The artifact's manifest, and the two blobs that it names. */
  readonly documents: readonly Document[];
}

interface ProvenanceSource {
  /** registry/repository[:tag] as requested; recorded nowhere else in the result. */
  readonly name: string;
  /** What the name resolved to. */
  readonly digest: Digest;
}

/** For the root and every derived image; nothing for unchanged ones. Equal input gives equal bytes. */
export function createProvenance(
  source: ProvenanceSource,
  { root, documents, images }: Augmented,
  steps: Steps,
): readonly Provenance[] {
  const derived = new Map(documents.map(document => [document.digest, document]));
  // Stored steps come back with their keys in the schema's order.
  const ordered = stepsSchema.parse(steps);
  const isImage = images.some(({ target }) => target === root.digest);
  const ofRoot = derived.has(root.digest) && !isImage ? [createArtifact(root, describeIndex(source, ordered))] : [];
  const ofImages = images.flatMap(image => {
    const target = derived.get(image.target);
    return target ? [createArtifact(target, describeImage(source, image, ordered))] : [];
  });
  return [...new Map([...ofRoot, ...ofImages].map(each => [each.descriptor.digest, each])).values()];
}

function describeIndex(source: ProvenanceSource, steps: Steps): object {
  const described = steps.map(({ rule, platforms, augmentation }) => ({ rule, platforms, changes: augmentation }));
  return { source, rules: rulesOf(steps), steps: described };
}

/** Only the steps that changed this image. `index` is what the name resolved to, where that is not the image itself. */
function describeImage({ name, digest }: ProvenanceSource, image: Augmented['images'][number], steps: Steps): object {
  const { platform, moved } = image;
  const own = stepsFor(steps, platform);
  const source = { name, digest: image.source, ...(image.source !== digest && { index: digest }) };
  const described = own.map(({ rule, augmentation }) => ({ rule, changes: changesOf(augmentation, platform) }));
  const of = { source, platform: formatPlatform(normalizePlatform(platform)), rules: rulesOf(own), steps: described };
  return moved.length === 0 ? of : { ...of, moved: moved.map(describeMove) };
}

/** A layer that replaces one of the steps, and which of its directories are links in the image. */
function describeMove({ source: { digest, inner, placement } }: MovedLayer): object {
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

function createArtifact({ mediaType, digest, size }: ContentDescriptor, statement: object): Provenance {
  const config = encode(mediaTypes.ociEmpty, {});
  const payload = encode(PROVENANCE_TYPE, statement);
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

/** A blob may exceed the size limit of manifests. */
function encode(mediaType: string, value: object): Document {
  const raw = new TextEncoder().encode(JSON.stringify(value));
  return { mediaType, digest: digestOf(raw), size: raw.byteLength, raw };
}

function descriptorOf({ mediaType, digest, size }: ContentDescriptor): ContentDescriptor {
  return { mediaType, digest, size };
}
