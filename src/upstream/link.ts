// The next page of a list. RFC 8288, and distribution-spec "Listing Tags" and "Listing Referrers".
import { type Attempt, badAnswer } from './failure.ts';
import type { ResponseHeaders } from './response.ts';

/** The address of the page after `page`, as its Link header has it; undefined on the last. Throws 502 for another host. */
export function findNext({ link }: ResponseHeaders, page: URL, attempt: Attempt): URL | undefined {
  const header = [link ?? []].flat().join(', ');
  const links = header.matchAll(/<([^<>]*)>([^<]*)/g);
  const target = links.find(([, , parameters = '']) => /;\s*rel\s*=\s*"?next\b/i.test(parameters))?.[1];
  if (target === undefined) return undefined;
  const url = URL.parse(target, page);
  if (url?.origin === page.origin) return url;
  throw badAnswer(attempt, 'the next page is not at the same host');
}
