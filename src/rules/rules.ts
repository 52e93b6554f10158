// The rules in force: what they make of an image that somebody pulls.
import type { Layer } from '../augment/augmentation.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { Step } from '../augment/steps.ts';
import type { RemoteLayer, RuleLayer, RuleOptions } from './rule.ts';

/** What is pulled, and by whom. */
export interface Subject {
  /** In full: registry/repository. */
  readonly repository: string;
  /** Undefined where it is named by its digest. */
  readonly tag: string | undefined;
  /** Undefined for who has no name. */
  readonly caller: string | undefined;
}

/** What rules make of an image: complete and pinned. */
export interface RuledSteps {
  /** In the order of the rules; at least one. */
  readonly steps: readonly Step[];
  /** Of all layers of the steps. */
  readonly layerSources: readonly LayerSource[];
  /** Of each step, of each of its layers in their order: the layer as the rule says it. For explanations alone. */
  readonly ruleLayers?: readonly (readonly RuleLayer[])[] | undefined;
}

/** Why a rule is for an image, or is not. */
export interface Verdict {
  readonly rule: RuleOptions;
  readonly applies: boolean;
  /** One line, such as `image docker.io/** matches` or `not: docker.io/library/scratch* matches`. */
  readonly reason: string;
}

/** One state of the rules. It never changes. */
export interface RuleSet {
  /** Of every rule, in their order. Platforms are not looked at: one image may have many. */
  judge(subject: Subject): readonly Verdict[];
  /** Undefined where no rule is for it. Throws RegistryError for a layer that cannot be had now: nothing that has to change goes out plain. */
  find(subject: Subject): Promise<RuledSteps | undefined>;
  /** The rules that refuse to serve a digest of the upstream's. A pattern with a tag counts: which tag it had cannot be known. */
  refusesPinned(subject: Omit<Subject, 'tag'>): readonly RuleOptions[];
}

/** The state may be another one at each look. */
export interface Rules {
  readonly current: RuleSet;
}

/** A layer with where its bytes are. */
export interface DescribedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
}

/** Layers of a registry or an address, pinned: an image may have many. Throws InvalidLayer or RegistryError. */
export type DescribeRemote = (layer: RemoteLayer) => Promise<readonly DescribedLayer[]>;
