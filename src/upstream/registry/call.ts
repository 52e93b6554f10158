// Calls to the distribution API of one registry: addressed, authorised for their repository, and described for messages.
import type { ErrorCode } from '../../oci/errors.ts';
import type { Authorizer } from '../auth/authorizer.ts';
import { badAnswer, type ConfigKeys, connectionFailure, type RequestContext } from '../failure.ts';
import { type ReadDocument, read, type Transports } from '../transport/request.ts';
import type { Answer, ResponseHeaders } from '../transport/response.ts';
import type { CallOptions } from '../upstream.ts';

export interface CallsOptions {
  readonly name: string;
  readonly keys?: ConfigKeys | undefined;
  /** The base of `/v2/`, with an optional path prefix. */
  readonly url: URL;
  readonly authorizer: Authorizer;
  readonly transports: Transports;
  readonly readDocument: ReadDocument;
  /** The actions to authorise; default: pull. */
  readonly actions?: Actions;
}

/** As in the scope of a token. */
type Actions = 'pull' | 'pull,push';

export interface CallRequest extends CallOptions {
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  readonly missing: ErrorCode;
  /** Statuses that are not errors. */
  readonly tolerated?: readonly number[];
}

/** A document small enough to be read whole. */
export interface Document {
  readonly raw: Uint8Array;
  readonly headers: ResponseHeaders;
}

/** Every function throws RegistryError, or the reason of the signal. */
export interface Call {
  readonly attempt: RequestContext;
  readonly address: URL;
  /** The caller ends the body. */
  read(headers?: Readonly<Record<string, string>>, signal?: AbortSignal): Promise<Answer>;
  /** The result of `work` with the answer; it must end the body, or throw. */
  readBody<T>(work: (response: Answer) => Promise<T>, page?: URL): Promise<T>;
  /** At most MAX_MANIFEST_BYTES of `address`, or of a further page. */
  readDocument(page?: URL): Promise<Document>;
}

/** `path` follows the repository, and may have a query. */
type CreateCall = (repository: string, path: string, request: CallRequest) => Call;

export function createCalls({
  name,
  keys,
  url,
  authorizer,
  transports,
  readDocument,
  actions = 'pull',
}: CallsOptions): CreateCall {
  const base = apiBase(url);
  return (repository, path, { method = 'GET', headers = {}, signal, missing, tolerated }) => {
    const action = `${repository}/${path.replace(/\?.*/, '')}`;
    const attempt: RequestContext = { upstream: name, action, missing, keys };
    const auth = { authorizer, scope: repositoryScope(repository, actions) };
    const address = new URL(`${base}${repository}/${path}`);
    const options = { method, headers, signal, attempt, transports, auth, tolerated };
    const readBody: Call['readBody'] = async (work, page = address) => {
      const response = await read(page, options);
      try {
        return await work(response);
      } catch (cause) {
        signal?.throwIfAborted();
        throw connectionFailure(cause, attempt);
      }
    };
    return {
      attempt,
      address,
      readBody,
      read: (more, until = signal) => read(address, { ...options, headers: { ...headers, ...more }, signal: until }),
      readDocument: page => readBody(async ({ body, headers }) => ({ raw: await readDocument(body), headers }), page),
    };
  };
}

/** The base of repository names, with a trailing slash. */
export function apiBase({ origin, pathname }: URL): string {
  return `${origin}${pathname.replace(/\/$/, '')}/v2/`;
}

export function repositoryScope(repository: string, actions: Actions): string {
  return `repository:${repository}:${actions}`;
}

// The next page of a list. RFC 8288, and distribution-spec "Listing Tags" and "Listing Referrers".

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
