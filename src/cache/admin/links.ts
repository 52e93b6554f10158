// Which repository has which content of the cache, as far as the cache asks.
import type { Digest } from '../../oci/digest.ts';

export interface CacheLinks {
  /** All links, or those of one repository, in the order of their full names. */
  list(repository?: string): AsyncIterable<CacheLink>;
  /** The full names of the repositories that hold some content. */
  holdersOf(digest: Digest): Promise<readonly string[]>;
}

export interface CacheLink {
  /** `<upstream>/<repository>` */
  readonly repository: string;
  readonly digest: Digest;
  /** `contentType` is there for a manifest alone. */
  readonly link: { readonly contentType?: string | undefined };
}

/** Whether one of the repositories that hold some content is such a one. */
export function createHolderTest(
  links: Pick<CacheLinks, 'holdersOf'>,
  isWanted: (repository: string) => boolean,
): (digest: Digest) => Promise<boolean> {
  return async digest => (await links.holdersOf(digest)).some(isWanted);
}
