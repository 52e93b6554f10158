// The rules in force: what they make of an image that somebody pulls.
import type { Augmentation, Layer, Step } from '../augment/augmentation.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { Digest } from '../oci/digest.ts';

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

// A rule, as an operator writes it: which images it is for, and what they get.

export interface RuleOptions {
  /** Unique among the rules. */
  readonly name: string;
  readonly match: RuleMatch;
  /** In their order on top of the image. */
  readonly layers: readonly RuleLayer[];
  readonly changes: RuleChanges;
  /** What a client gets that names a digest of the upstream's: the image as it is, or an error. */
  readonly pinned: 'untouched' | 'refused';
}

/** All that are given have to hold. */
export interface RuleMatch {
  /**
   * Globs of full names: `*` stays within a component, `**` does not. One with a tag, such as `docker.io/library/alpine:3*`, is of that tag
   * alone; one without is of all tags.
   */
  readonly image: readonly string[];
  /** Globs of what `image` matches and the rule leaves alone. */
  readonly not: readonly string[];
  /** Globs of normalised platforms; absent: all. */
  readonly platform?: readonly string[] | undefined;
  /** Globs of callers' names; `anonymous` is who has none. Absent: all. */
  readonly caller?: readonly string[] | undefined;
}

type RuleChanges = Omit<Augmentation, 'layers' | 'platforms' | 'attestations'>;

/** `platforms` are normalised; absent: all that the rule is for. */
export type RuleLayer = { readonly platforms?: readonly string[] | undefined } & (LocalLayer | RemoteLayer);

/** Paths are relative to the working directory. A directory's content is the root of the layer; a file is a tar, plain or packed. */
export type LocalLayer =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string };

/** Where it is in a registry, or at an address. Of an image all layers are taken, those of each platform for that platform. */
export type RemoteLayer =
  | { readonly kind: 'url'; readonly url: string; readonly digest?: Digest | undefined }
  | { readonly kind: 'blob'; readonly location: string }
  | { readonly kind: 'image'; readonly image: string };
