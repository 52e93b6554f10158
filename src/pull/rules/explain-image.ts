// Explains the result for one image: the rules that apply, the appended layers, and the differences in its config and annotations.
import type { Augmented, ImageOutcome } from '../../augment/augment.ts';
import { type Layer, type Step, type Steps, stepsFor } from '../../augment/augmentation.ts';
import type { Document } from '../../augment/document.ts';
import type { MovedLayer, SourceReader } from '../../augment/source.ts';
import type { ContentDescriptor, Descriptor } from '../../oci/descriptor.ts';
import type { Digest } from '../../oci/digest.ts';
import { type ImageConfig, parseImageConfig } from '../../oci/image-config.ts';
import { objectIn, parseObject } from '../../oci/json.ts';
import { type Manifest, parseManifest } from '../../oci/manifest.ts';
import { formatPlatform, normalizePlatform } from '../../oci/platform.ts';
import { type AddedLayer, type Difference, describeLayerOrigin, type ExplainedImage } from '../../rules/explanation.ts';
import type { RuleLayer } from '../../rules/rules.ts';

interface ExplainImageOptions {
  readonly steps: Steps;
  /** For each layer of each step, the layer as in the rule. */
  readonly ruleLayers: readonly (readonly RuleLayer[])[];
  readonly augmented: Augmented;
  readonly readManifest: (digest: Digest) => Promise<Manifest>;
  readonly readConfig: SourceReader['readConfig'];
}

/** Explains the result of `augmented`. Throws what the readers throw. */
type ExplainImage = (image: ImageOutcome) => Promise<ExplainedImage>;

export function createExplainImage(options: ExplainImageOptions): ExplainImage {
  const { steps, ruleLayers, augmented, readManifest, readConfig } = options;
  const documents = new Map(augmented.documents.map(document => [document.digest, document]));
  const locations = locationsOf(steps, ruleLayers);

  return async ({ platform, source, target, warnings, moved }) => {
    const own = stepsFor(steps, platform);
    const common = {
      platform: formatPlatform(normalizePlatform(platform)),
      rules: own.flatMap(({ rule }) => rule ?? []),
      sourceDigest: source,
      digest: target,
      warnings: [...warnings],
    };
    const derived = documents.get(target);
    if (source === target || !derived) return { ...common, differences: [], layers: [] };
    const before = await readManifest(source);
    const after = parseManifest(derived.raw, derived.mediaType);
    const added = layersOf(after).slice(layersOf(before).length);
    return {
      ...common,
      differences: await compare(before, after),
      layers: describeLayers(added, { steps: own, locations, moved }),
    };
  };

  async function compare(before: Manifest, after: Manifest): Promise<Difference[]> {
    const [source, target] = await Promise.all([describe(before), describe(after)]);
    return source && target ? [...compareImages(source, target)] : [];
  }

  async function describe(manifest: Manifest): Promise<ImageDescription | undefined> {
    if (manifest.kind !== 'image') return undefined;
    const config = parseImageConfig(await readAnyConfig(manifest.config));
    return { config, annotations: annotationsOf(manifest) };
  }

  async function readAnyConfig(descriptor: ContentDescriptor): Promise<Uint8Array> {
    const derived: Document | undefined = documents.get(descriptor.digest);
    return derived ? derived.raw : readConfig(descriptor);
  }
}

function locationsOf(steps: Steps, ruleLayers: ExplainImageOptions['ruleLayers']): ReadonlyMap<Layer, RuleLayer> {
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
  readonly locations: ReadonlyMap<Layer, RuleLayer>;
  readonly moved: readonly MovedLayer[];
}

/** The appended layers are a subset of the steps' layers, in order, original or moved: those for the platform. */
function describeLayers(added: readonly Descriptor[], { steps, locations, moved }: AddedBy): AddedLayer[] {
  const candidates = steps.flatMap(({ rule, augmentation }) => augmentation.layers.map(layer => ({ rule, layer })));
  let next = 0;
  return added.map(({ digest, size }) => {
    const became = moved.find(({ source }) => source.digest === digest);
    const given = became?.source.inner.digest ?? digest;
    const common = { digest, size, ...(became && { moved: describeMove(became) }) };
    const found = candidates.findIndex(({ layer }, at) => at >= next && layer.digest === given);
    const candidate = candidates[found];
    if (!candidate) return common;
    next = found + 1;
    const written = locations.get(candidate.layer);
    return {
      ...common,
      ...(candidate.rule !== undefined && { rule: candidate.rule }),
      ...(written && { from: describeLayerOrigin(written) }),
    };
  });
}

function describeMove({ source, entries, count }: MovedLayer): NonNullable<AddedLayer['moved']> {
  return { given: source.inner.digest, entries: [...entries], count };
}

function layersOf(manifest: Manifest): readonly Descriptor[] {
  return manifest.kind === 'image' ? manifest.layers : [];
}

function annotationsOf({ raw }: Manifest): ReadonlyMap<string, string> {
  const entries = Object.entries(objectIn(parseObject(raw), 'annotations'));
  return new Map(entries.flatMap(([key, value]) => (typeof value === 'string' ? [[key, value] as const] : [])));
}

// The differences between two images that matter to their users: the configs, and the annotations of the manifests. Pure.

/** The description of an image. */
export interface ImageDescription {
  readonly config: ImageConfig;
  /** Of its manifest. */
  readonly annotations: ReadonlyMap<string, string>;
}

type Run = NonNullable<ImageConfig['config']>;
type Value = Difference['after'];

/** In the order of docker's documentation, and within a field in the order of the target; removed entries come last. */
export function compareImages(source: ImageDescription, target: ImageDescription): readonly Difference[] {
  const [before, after] = [source.config.config ?? {}, target.config.config ?? {}];
  return [
    ...compareMaps('env', envOf(before), envOf(after)),
    ...compareValues('entrypoint', before.Entrypoint, after.Entrypoint),
    ...compareValues('cmd', before.Cmd, after.Cmd),
    ...compareValues('workingDir', before.WorkingDir, after.WorkingDir),
    ...compareValues('user', before.User, after.User),
    ...compareMaps('labels', mapOf(before.Labels), mapOf(after.Labels)),
    ...compareMaps('exposedPorts', portsOf(before), portsOf(after)),
    ...compareMaps('annotations', source.annotations, target.annotations),
  ];
}

/** Of duplicate variables the last counts, as in a shell. */
function envOf({ Env }: Run): ReadonlyMap<string, string> {
  return new Map(
    (Env ?? []).map(entry => {
      const [name = ''] = entry.split('=', 1);
      return [name, entry.slice(name.length + 1)];
    }),
  );
}

function mapOf(record: Readonly<Record<string, string>> | null | undefined): ReadonlyMap<string, string> {
  return new Map(Object.entries(record ?? {}));
}

/** A port is present or absent, without a value. */
function portsOf({ ExposedPorts }: Run): ReadonlyMap<string, string> {
  return new Map(Object.keys(ExposedPorts ?? {}).map(port => [port, '']));
}

function compareMaps(
  field: Difference['field'],
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): readonly Difference[] {
  const keys = new Set([...after.keys(), ...before.keys()]);
  return [...keys].flatMap(key => {
    const found = compareValues(field, before.get(key), after.get(key));
    return found.map(difference => ({ ...difference, key }));
  });
}

/** A config may have null for absent values. */
function compareValues(field: Difference['field'], before: Value | null, after: Value | null): readonly Difference[] {
  if (JSON.stringify(before ?? null) === JSON.stringify(after ?? null)) return [];
  return [{ field, ...(before != null && { before }), ...(after != null && { after }) }];
}
