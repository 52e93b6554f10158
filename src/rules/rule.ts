// A rule, as an operator writes it: which images it is for, and what they get.
import type { Augmentation } from '../augment/augmentation.ts';
import type { Digest } from '../oci/digest.ts';

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
