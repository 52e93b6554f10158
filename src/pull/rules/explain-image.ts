// What became of one image, told: the rules that are for it, the layers that it got, and what is different in its config and annotations.
import type { Augmented, ImageOutcome } from '../../augment/augment.ts';
import type { Layer } from '../../augment/augmentation.ts';
import type { Document } from '../../augment/document.ts';
import type { MovedLayer, SourceReader } from '../../augment/source.ts';
import { type Step, type Steps, stepsFor } from '../../augment/steps.ts';
import type { ContentDescriptor, Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { parseImageConfig } from '../../oci/image-config.ts';
import { objectIn, parseObject } from '../../oci/json.ts';
import { type Manifest, parseManifest } from '../../oci/manifest.ts';
import { formatPlatform, normalizePlatform } from '../../oci/platform.ts';
import type { AddedLayer, Difference, ExplainedImage } from '../../rules/explanation.ts';
import { tellLayerPlace } from '../../rules/layer-place.ts';
import type { RuleLayer } from '../../rules/rule.ts';
import { compareImages, type ImageWords } from './config-difference.ts';

interface ExplainImageOptions {
  readonly steps: Steps;
  /** Of each step, of each of its layers: as the rule says it. */
  readonly ruleLayers: readonly (readonly RuleLayer[])[];
  readonly augmented: Augmented;
  readonly readManifest: (digest: Digest) => Promise<Manifest>;
  readonly readConfig: SourceReader['readConfig'];
}

/** Tells what became of an image of `augmented`. Throws what the readers throw. */
type ExplainImage = (image: ImageOutcome) => Promise<ExplainedImage>;

export function createExplainImage(options: ExplainImageOptions): ExplainImage {
  const { steps, ruleLayers, augmented, readManifest, readConfig } = options;
  const documents = new Map(augmented.documents.map(document => [document.digest, document]));
  const places = placesOf(steps, ruleLayers);

  return async ({ platform, source, target, warnings, moved }) => {
    const own = stepsFor(steps, platform);
    const told = {
      platform: formatPlatform(normalizePlatform(platform)),
      rules: own.flatMap(({ rule }) => rule ?? []),
      sourceDigest: source,
      digest: target,
      warnings: [...warnings],
    };
    const made = documents.get(target);
    if (source === target || !made) return { ...told, differences: [], layers: [] };
    const before = await readManifest(source);
    const after = parseManifest(made.raw, made.mediaType);
    const added = layersOf(after).slice(layersOf(before).length);
    return {
      ...told,
      differences: await compare(before, after),
      layers: tellLayers(added, { steps: own, places, moved }),
    };
  };

  async function compare(before: Manifest, after: Manifest): Promise<Difference[]> {
    const [source, target] = await Promise.all([wordsOf(before), wordsOf(after)]);
    return source && target ? [...compareImages(source, target)] : [];
  }

  async function wordsOf(manifest: Manifest): Promise<ImageWords | undefined> {
    if (manifest.kind !== 'image') return undefined;
    const config = parseImageConfig(await readAnyConfig(manifest.config));
    return { config, annotations: annotationsOf(manifest) };
  }

  async function readAnyConfig(descriptor: ContentDescriptor): Promise<Uint8Array> {
    const made: Document | undefined = documents.get(descriptor.digest);
    return made ? made.raw : readConfig(descriptor);
  }
}

function placesOf(steps: Steps, ruleLayers: ExplainImageOptions['ruleLayers']): ReadonlyMap<Layer, RuleLayer> {
  return new Map(
    steps.flatMap(({ augmentation }, step) =>
      augmentation.layers.flatMap((layer, at) => {
        const written = ruleLayers[step]?.[at];
        return written ? [[layer, written] as const] : [];
      }),
    ),
  );
}

interface AddedBy {
  readonly steps: readonly Step[];
  readonly places: ReadonlyMap<Layer, RuleLayer>;
  readonly moved: readonly MovedLayer[];
}

/** What was added is some of the steps' layers, in their order, as they were given or as they became: those that are for the platform. */
function tellLayers(added: readonly Descriptor[], { steps, places, moved }: AddedBy): AddedLayer[] {
  const candidates = steps.flatMap(({ rule, augmentation }) => augmentation.layers.map(layer => ({ rule, layer })));
  let next = 0;
  return added.map(({ digest, size }) => {
    const became = moved.find(({ source }) => source.digest === digest);
    const given = became?.source.inner.digest ?? digest;
    const told = { digest, size, ...(became && { moved: tellMoved(became) }) };
    const found = candidates.findIndex(({ layer }, at) => at >= next && layer.digest === given);
    const candidate = candidates[found];
    if (!candidate) return told;
    next = found + 1;
    const written = places.get(candidate.layer);
    return {
      ...told,
      ...(candidate.rule !== undefined && { rule: candidate.rule }),
      ...(written && { from: tellLayerPlace(written) }),
    };
  });
}

function tellMoved({ source, entries, count }: MovedLayer): NonNullable<AddedLayer['moved']> {
  return { given: source.inner.digest, entries: [...entries], count };
}

function layersOf(manifest: Manifest): readonly Descriptor[] {
  return manifest.kind === 'image' ? manifest.layers : [];
}

function annotationsOf({ raw }: Manifest): ReadonlyMap<string, string> {
  const entries = Object.entries(objectIn(parseObject(raw), 'annotations'));
  return new Map(entries.flatMap(([key, value]) => (typeof value === 'string' ? [[key, value] as const] : [])));
}
