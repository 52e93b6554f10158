// The next page of a list. RFC 8288, and distribution-spec "Listing Tags" and "Listing Referrers".
import { badAnswer, type RequestContext } from '../failure.ts';
import type { ResponseHeaders } from '../transport/response.ts';

/** The address of the page after `page`, as its Link header has it; undefined on the last. Throws 502 for another host. */
export function findNext(headers: ResponseHeaders, page: URL, attempt: RequestContext): URL | undefined {
  const target = findTarget(headers);
  if (target === undefined) return undefined;
  const url = URL.parse(target, page);
  if (url?.origin === page.origin) return url;
  throw badAnswer(attempt, 'the next page is not at the same host');
}

/**
 * What the Link header says to ask next, in the place of `page`: a query, empty or with its `?`; undefined on the last page. Its host is not
 * asked: behind a proxy, many a registry does not know its own name. Throws 502 for what is no page of the same list.
 */
export function findNextQuery(headers: ResponseHeaders, page: URL, attempt: RequestContext): string | undefined {
  const target = findTarget(headers);
  if (target === undefined) return undefined;
  const url = URL.parse(target, page);
  const [end] = /\/[^/]+\/[^/]+$/.exec(page.pathname) ?? [];
  if (url && end !== undefined && url.pathname.replace(/\/$/, '').endsWith(end)) return url.search;
  throw badAnswer(attempt, 'the next page is not of the same list');
}

/** Some send a link of no relation, which then is to the next page. */
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

/** Whether one of the relations is `next`, in quotes or without. */
function isNext(parameters: string): boolean {
  const [, relations = ''] = /;\s*rel\s*=([^;,]*)/i.exec(parameters) ?? [];
  return relations
    .toLowerCase()
    .split(/["'\s]/)
    .includes('next');
}
