// Two lists of tags as one, page by page.
import type { TagList, TagPage } from '../../upstream/upstream.ts';

/** Both are the same page, in ASCII order, of their repositories. */
export function mergeTags(a: TagList, b: TagList, { n = Number.POSITIVE_INFINITY }: TagPage): TagList {
  // Beyond the end of a page that goes on, the other list may not be shown yet: the next page begins after the last tag of this one.
  const ends = [a, b].flatMap(({ tags, hasMore }) => (hasMore ? tags.slice(-1) : []));
  const all = [...new Set([...a.tags, ...b.tags])].sort();
  const shown = all.filter(tag => ends.every(end => tag <= end)).slice(0, n);
  return { tags: shown, hasMore: a.hasMore || b.hasMore || shown.length < all.length };
}
