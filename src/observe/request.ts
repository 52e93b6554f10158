// The facts about a request while it is served: rooms report what they did for it, and it is logged and counted when it ends.
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { TraceSpan } from './tracing.ts';

/** Cache results, from the cheapest to the most expensive: a request with several lookups reports the most expensive one. */
const cacheResults = ['hit', 'revalidated', 'stale', 'coalesced', 'miss'] as const;

/**
 * hit: cached. revalidated: the upstream was asked what a tag points to. stale: the upstream failed, and the cached digest of the tag was
 * used. coalesced: another request was fetching it. miss: fetched from the upstream.
 */
export type CacheResult = (typeof cacheResults)[number];

/** The facts about one request. Updated while it is served; unbounded input is truncated when it is set. */
export interface RequestFacts {
  readonly id: string;
  /** From the traceparent header, or of the trace started for the request; undefined without either. */
  traceId: string | undefined;
  /** Undefined unless traces are enabled. */
  span: TraceSpan | undefined;
  readonly method: string;
  /** With credentials, such as token ids, removed. */
  readonly path: string;
  /** The pattern of the matched route; empty if there is none. */
  readonly route: string;
  readonly userAgent: string | undefined;
  /** The address of the client; undefined where the request did not arrive over a socket. */
  readonly address: string | undefined;
  /** From performance.now(). */
  readonly startedAt: number;
  /** Facts that differ from these in nothing but id, trace and start: what was made of them serves again. */
  readonly like: RequestFacts | undefined;
  /** `registry/repository`, once admission has found it. */
  repository: string | undefined;
  /** The requested tag or digest. */
  reference: string | undefined;
  /** The name of the caller; undefined for one without. */
  caller: string | undefined;
  /** The change that the request makes, or attempts; undefined for one that only reads. */
  action: RequestAction | undefined;
  /** The error of a response with a status of 400 or more, or of a body that broke. */
  error: RequestError | undefined;
  cache: CacheResult | undefined;
  /** Whether a rule or a token was applied to the served content. */
  isAugmented: boolean;
  /** The names of those rules. */
  appliedRules: readonly string[];
  /** The upstream that was contacted last. */
  upstream: string | undefined;
  /** Time spent waiting for upstreams. */
  upstreamMs: number;
  /** Time spent waiting for a build. */
  heldMs: number;
}

interface RequestAction {
  /** A noun and a verb, such as `token.revoke`. */
  readonly name: string;
  /** The target of the action, if path, repository and reference do not show it. Without secrets, in one line. */
  readonly target: string | undefined;
}

interface RequestError {
  readonly code: string;
  /** In one line. */
  readonly message: string;
}

/** The request on whose behalf code runs. */
export interface RequestScope {
  run<T>(facts: RequestFacts, work: () => T): T;
  /** Undefined outside of any request. */
  current(): RequestFacts | undefined;
}

export function createRequestScope(): RequestScope {
  const storage = new AsyncLocalStorage<RequestFacts>();
  return { run: (facts, work) => storage.run(facts, work), current: () => storage.getStore() };
}

interface NewRequest {
  readonly method: string;
  readonly path: string;
  readonly route: string;
  readonly address: string | undefined;
  readonly header: (name: string) => string | undefined;
}

const MAX_USER_AGENT = 256;
const NO_RULES: readonly string[] = [];

export function beginRequest({ method, path, route, address, header }: NewRequest): RequestFacts {
  const traceId = findTraceId(header('traceparent'));
  const userAgent = header('user-agent');
  return {
    id: requestId(header('x-request-id'), traceId),
    traceId,
    span: undefined,
    method,
    path,
    route,
    userAgent: userAgent === undefined ? undefined : printableAscii(userAgent.slice(0, MAX_USER_AGENT)),
    address,
    startedAt: performance.now(),
    like: undefined,
    repository: undefined,
    reference: undefined,
    caller: undefined,
    action: undefined,
    error: undefined,
    cache: undefined,
    isAugmented: false,
    appliedRules: NO_RULES,
    upstream: undefined,
    upstreamMs: 0,
    heldMs: 0,
  };
}

/** Facts of another request that equals one. `startedAt` is from performance.now(). */
export function repeatRequest(like: RequestFacts, startedAt: number): RequestFacts {
  return { ...like, id: randomUUID(), startedAt, like };
}

/** Facts for background work: its upstream requests count for no client's request. */
export function beginWork(span: TraceSpan): RequestFacts {
  const none = { method: '', path: '', route: '', address: undefined, header: () => undefined };
  return Object.assign(beginRequest(none), { span, traceId: span.traceId });
}

export function noteLookup(facts: RequestFacts | undefined, result: CacheResult): void {
  if (!facts) return;
  const isSlower = facts.cache === undefined || cacheResults.indexOf(result) > cacheResults.indexOf(facts.cache);
  if (isSlower) facts.cache = result;
}

/** Accepted ids of clients: they go into headers and logs. */
const REQUEST_ID = /^[\w.~+/=:-]{1,128}$/;

/** The client's own, else its trace, else a new one. */
function requestId(given: string | undefined, traceId: string | undefined): string {
  if (given !== undefined && REQUEST_ID.test(given)) return given;
  return traceId ?? randomUUID();
}

const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})[\da-f]{16}-[\da-f]{2}(?:$|-)/;

/** Undefined for a header that W3C Trace Context says to ignore. */
function findTraceId(header: string | undefined): string | undefined {
  return header === undefined ? undefined : TRACEPARENT.exec(header)?.[1];
}

/** Terminals would interpret other characters. */
function printableAscii(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?');
}

// The access log: one line for each request, once its last byte was sent. JSON, or the same fields as text for a terminal.

/** How a request ended. */
export interface RequestEnd {
  readonly status: number;
  /** Including headers; undefined where the request did not arrive over a socket. */
  readonly bytesSent?: number | undefined;
  readonly bytesReceived?: number | undefined;
  readonly durationMs: number;
  /** Whether the connection closed before the response was complete. */
  readonly isAborted: boolean;
}

export type WriteAccessLog = (facts: RequestFacts, end: RequestEnd) => void;

/** The client closed the connection before a status was sent. The number is nginx's. */
export const CLIENT_LEFT = 499;

export interface AccessLogOptions {
  /** Default: json. */
  readonly format?: 'json' | 'pretty' | undefined;
  /** Gets each line of JSON in place of the logger, which takes several times as long to make one. */
  readonly direct?: DirectLog | undefined;
}

interface DirectLog {
  /** Of every line, as in those of the logger. */
  readonly base: Readonly<Record<string, unknown>>;
  readonly write: (line: string) => void;
}

export function createAccessLog(log: Logger, { format = 'json', direct }: AccessLogOptions = {}): WriteAccessLog {
  const formatFields = createFormatFields();
  const base = direct === undefined ? '' : fieldsOf(direct.base);
  const starts = {
    info: `{"level":${log.levels.values.info},"time":`,
    warn: `{"level":${log.levels.values.warn},"time":`,
  };
  return (facts, end) => {
    // Failures on our side are logged as warnings.
    const level = end.status >= 500 ? 'warn' : 'info';
    if (!log.isLevelEnabled(level)) return;
    if (direct && format === 'json') {
      direct.write(`${starts[level]}${Date.now()}${base}${formatFields(facts, end)},"msg":"request"}\n`);
      return;
    }
    const line: Line = JSON.parse(`{${formatFields(facts, end).slice(1)}}`);
    if (format === 'pretty') log[level](formatLine(line));
    else log[level](line, 'request');
  };
}

/** As JSON, each with a comma in front. */
function fieldsOf(fields: object): string {
  const inner = JSON.stringify(fields).slice(1, -1);
  return inner === '' ? '' : `,${inner}`;
}

/** The fields of a line as JSON, each with a comma in front, in less than half of the time that an object and its encoding take. */
function createFormatFields(): (facts: RequestFacts, end: RequestEnd) => string {
  /** Of facts that others are like. */
  const known = new WeakMap<RequestFacts, OwnFields>();

  function ownFields(facts: RequestFacts): OwnFields {
    const { like } = facts;
    const before = like && known.get(like);
    if (before) return before;
    const own = formatOwn(facts);
    if (like) known.set(like, own);
    return own;
  }

  return (facts, end) => {
    const { first, last } = ownFields(facts);
    // Ids need no escape: clients' own have been checked.
    let json = `${first}${end.status},"durationMs":${tenths(end.durationMs)},"requestId":"${facts.id}"`;
    if (facts.traceId !== undefined) json += `,"traceId":"${facts.traceId}"`;
    json += last;
    if (end.bytesSent !== undefined) json += `,"bytesSent":${end.bytesSent}`;
    if (end.bytesReceived !== undefined) json += `,"bytesReceived":${end.bytesReceived}`;
    if (end.isAborted) json += ',"aborted":true';
    if (facts.error) json += fieldsOf({ error: facts.error.code, reason: facts.error.message });
    return json;
  };
}

/** The fields that are the same for all requests that are alike: before the status, and after the ids. */
interface OwnFields {
  readonly first: string;
  readonly last: string;
}

function formatOwn(facts: RequestFacts): OwnFields {
  let json = '';
  if (facts.address !== undefined) json += `,"address":${quote(facts.address)}`;
  if (facts.caller !== undefined) json += `,"caller":${quote(facts.caller)}`;
  if (facts.action) json += fieldsOf({ action: facts.action.name, target: facts.action.target });
  if (facts.userAgent !== undefined) json += `,"userAgent":${quote(facts.userAgent)}`;
  if (facts.repository !== undefined) json += `,"repository":${quote(facts.repository)}`;
  if (facts.reference !== undefined) json += `,"reference":${quote(facts.reference)}`;
  if (facts.cache) json += `,"cache":"${facts.cache}"`;
  if (facts.isAugmented) json += ',"augmented":true';
  if (facts.upstream !== undefined)
    json += `,"upstream":${quote(facts.upstream)},"upstreamMs":${tenths(facts.upstreamMs)}`;
  if (facts.heldMs > 0) json += `,"heldMs":${tenths(facts.heldMs)}`;
  return { first: `,"method":${quote(facts.method)},"path":${quote(facts.path)},"status":`, last: json };
}

const NEEDS_NO_ESCAPE = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/;

function quote(text: string): string {
  return NEEDS_NO_ESCAPE.test(text) ? `"${text}"` : JSON.stringify(text);
}

type Line = Readonly<Record<string, unknown>>;

/** `GET /v2/library/alpine/manifests/3 200 1.2ms cache=hit …`, with values that have spaces in quotes. */
function formatLine({ method, path, status, durationMs, ...rest }: Line): string {
  const fields = Object.entries(rest).map(([name, value]) => `${name}=${quoteIfNeeded(String(value))}`);
  return [method, quoteIfNeeded(String(path)), status, `${durationMs}ms`, ...fields].join(' ');
}

function quoteIfNeeded(text: string): string {
  if (/^[\x21\x23-\x7e]+$/.test(text)) return text;
  return JSON.stringify(text).replace(
    /[^\x20-\x7e]/g,
    unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}
