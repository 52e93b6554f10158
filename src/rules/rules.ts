// The active rules: what they do to a pulled image.
import type { Augmentation, Layer, Step } from '../augment/augmentation.ts';
import type { LayerSource } from '../augment/layer-source.ts';
import type { Digest } from '../oci/digest.ts';

/** What is pulled, and by whom. */
export interface Subject {
  /** In full: registry/repository. */
  readonly repository: string;
  /** Undefined where it is requested by digest. */
  readonly tag: string | undefined;
  /** Undefined for anonymous. */
  readonly caller: string | undefined;
}

/** What rules do to an image: complete and pinned. */
export interface RuledSteps {
  /** In the order of the rules; at least one. */
  readonly steps: readonly Step[];
  /** Of all layers of the steps. */
  readonly layerSources: readonly LayerSource[];
  /** For each layer of each step, the layer as in the rule. For explanations only. */
  readonly ruleLayers?: readonly (readonly RuleLayer[])[] | undefined;
}

/** Why a rule matches an image, or does not. */
export interface Verdict {
  readonly rule: RuleOptions;
  readonly applies: boolean;
  /** One line, such as `image docker.io/** matches` or `not: docker.io/library/scratch* matches`. */
  readonly reason: string;
}

/** One immutable state of the rules. */
export interface RuleSet {
  /** For every rule, in order. Platforms are not considered: one image may have many. */
  judge(subject: Subject): readonly Verdict[];
  /**
   * Undefined where no rule matches. Throws RegistryError for a layer that is unavailable: an image that should change is never served
   * unchanged.
   */
  find(subject: Subject): Promise<RuledSteps | undefined>;
  /** The rules that refuse to serve digests of the upstream. Patterns with a tag count: the tag behind a digest is unknown. */
  refusesPinned(subject: Omit<Subject, 'tag'>): readonly RuleOptions[];
}

/** May return another state on each call. */
export interface Rules {
  readonly current: RuleSet;
}

/** A layer with the location of its bytes. */
export interface DescribedLayer {
  readonly layer: Layer;
  readonly source: LayerSource;
}

/** Resolves layers from a registry or an address, pinned: an image may have many. Throws InvalidLayer or RegistryError. */
export type DescribeRemote = (layer: RemoteLayer) => Promise<readonly DescribedLayer[]>;

// A rule, as written by an operator: which images it matches, and what they get.

export interface RuleOptions {
  /** Unique among the rules. */
  readonly name: string;
  readonly match: RuleMatch;
  /** Appended to the image in this order. */
  readonly layers: readonly RuleLayer[];
  readonly changes: RuleChanges;
  /** What a client gets that requests a digest of the upstream: the unchanged image, or an error. */
  readonly pinned: 'untouched' | 'refused';
}

/** All that are given must match. */
export interface RuleMatch {
  /**
   * Globs of full names: `*` stays within a component, `**` does not. One with a tag, such as `docker.io/library/alpine:3*`, matches that
   * tag only; one without matches all tags.
   */
  readonly image: readonly string[];
  /** Globs that exclude images matched by `image`. */
  readonly not: readonly string[];
  /** Globs of normalised platforms; absent: all. */
  readonly platform?: readonly string[] | undefined;
  /** Globs of callers' names; `anonymous` matches callers without one. Absent: all. */
  readonly caller?: readonly string[] | undefined;
}

type RuleChanges = Omit<Augmentation, 'layers' | 'platforms' | 'attestations'>;

/** `platforms` are normalised; absent: all that the rule matches. */
export type RuleLayer = { readonly platforms?: readonly string[] | undefined } & (LocalLayer | RemoteLayer);

/** Paths are relative to the working directory. A directory becomes the root of the layer; a file is a tar, plain or compressed. */
export type LocalLayer =
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'file'; readonly path: string };

/** In a registry, or at an address. For an image, all its layers are taken, those of each platform for that platform. */
export type RemoteLayer =
  | { readonly kind: 'url'; readonly url: string; readonly digest?: Digest | undefined }
  | { readonly kind: 'blob'; readonly location: string }
  | { readonly kind: 'image'; readonly image: string };
