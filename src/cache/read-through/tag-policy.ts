// How long a tag is believed, and which failures of an upstream make us believe it longer.
import { RegistryError } from '../../oci/errors.ts';
import { createTagTest } from '../../oci/name-pattern.ts';

export interface TagPolicy {
  readonly tagFreshnessMs: number;
  /** Rules for some tags, by globs of full names and of tags: the first that matches decides in place of tagFreshnessMs. */
  readonly freshness?: readonly FreshnessRule[];
  /** How old a tag may be that is served because the upstream fails. */
  readonly staleMaxAgeMs: number;
  /** Default: unavailable. */
  readonly staleOn?: readonly StaleCause[];
  /** How long a 404 is remembered; default: not at all. */
  readonly negativeMs?: number;
}

interface FreshnessRule {
  readonly images: readonly string[];
  readonly tags: readonly string[];
  readonly timeMs: number;
}

/** What an upstream may do instead of saying what a tag points to; unavailable: it limits us, is broken, or hangs. */
type StaleCause = 'unavailable' | 'notFound' | 'unauthorized';

/** How long the digest of a tag is believed, in milliseconds. */
export function createFreshness({ tagFreshnessMs, freshness = [] }: TagPolicy): (name: string, tag: string) => number {
  const rules = freshness.map(({ images, tags, timeMs }) => ({
    matches: createTagTest([{ repositories: images, tags }]),
    timeMs,
  }));
  return (name, tag) => rules.find(({ matches }) => matches(name, tag))?.timeMs ?? tagFreshnessMs;
}

/** Whether a stored copy may be served in place of the error. */
export function createStaleTest({ staleOn = ['unavailable'] }: TagPolicy): (error: unknown) => boolean {
  return error => {
    const cause = error instanceof RegistryError ? causeOf(error) : undefined;
    return cause !== undefined && staleOn.includes(cause);
  };
}

function causeOf({ status }: RegistryError): StaleCause | undefined {
  if (status === 429 || status >= 500) return 'unavailable';
  if (status === 404) return 'notFound';
  return status === 401 || status === 403 ? 'unauthorized' : undefined;
}
