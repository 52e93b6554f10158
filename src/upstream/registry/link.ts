// The next page of a list. RFC 8288, and distribution-spec "Listing Tags" and "Listing Referrers".
import { badAnswer, type RequestContext } from '../failure.ts';
import type { ResponseHeaders } from '../transport/response.ts';

/** The address of the page after `page`, from its Link header; undefined on the last. Throws 502 for another host. */
export function findNext(headers: ResponseHeaders, page: URL, attempt: RequestContext): URL | undefined {
  const target = findTarget(headers);
  if (target === undefined) return undefined;
  const url = URL.parse(target, page);
  if (url?.origin === page.origin) return url;
  throw badAnswer(attempt, 'the next page is not at the same host');
}

/**
 * The next query according to the Link header of `page`: empty or with its `?`; undefined on the last page. The host is ignored: behind a
 * proxy, many registries do not know their own name. Throws 502 for a page of another list.
 */
export function findNextQuery(headers: ResponseHeaders, page: URL, attempt: RequestContext): string | undefined {
  const target = findTarget(headers);
  if (target === undefined) return undefined;
  const url = URL.parse(target, page);
  const [end] = /\/[^/]+\/[^/]+$/.exec(page.pathname) ?? [];
  if (url && end !== undefined && url.pathname.replace(/\/$/, '').endsWith(end)) return url.search;
  throw badAnswer(attempt, 'the next page is not of the same list');
}

/** Some send a link without a relation, which then means the next page. */
function findTarget({ link }: ResponseHeaders): string | undefined {
  const links = [
    ...[link ?? []]
      .flat()
      .join(', ')
      .matchAll(/<([^<>]*)>([^<]*)/g),
  ];
  const next = links.find(([, , parameters = '']) => isNext(parameters));
  const [only, ...others] = links;
  const isPlain = only !== undefined && others.length === 0 && !/;\s*rel\s*=/i.test(only[2] ?? '');
  return (next ?? (isPlain ? only : undefined))?.[1];
}

/** Whether one of the relations is `next`, quoted or not. */
function isNext(parameters: string): boolean {
  const [, relations = ''] = /;\s*rel\s*=([^;,]*)/i.exec(parameters) ?? [];
  return relations
    .toLowerCase()
    .split(/["'\s]/)
    .includes('next');
}
