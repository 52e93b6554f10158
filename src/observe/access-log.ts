// The access log: one line for each request, once its last byte was sent. JSON, or the same fields as text for a terminal.
import type { Logger } from 'pino';
import type { RequestFacts } from './request.ts';

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

export function createAccessLog(log: Logger, format: 'json' | 'pretty'): WriteAccessLog {
  return (facts, end) => {
    // Failures on our side are logged as warnings.
    const level = end.status >= 500 ? 'warn' : 'info';
    if (!log.isLevelEnabled(level)) return;
    const line = describe(facts, end);
    if (format === 'json') log[level](line, 'request');
    else log[level](formatLine(line));
  };
}

type Line = ReturnType<typeof describe>;

/** Undefined fields are omitted. */
function describe(facts: RequestFacts, end: RequestEnd) {
  return {
    method: facts.method,
    path: facts.path,
    status: end.status,
    durationMs: tenths(end.durationMs),
    requestId: facts.id,
    traceId: facts.traceId,
    address: facts.address,
    caller: facts.caller,
    action: facts.action?.name,
    target: facts.action?.target,
    userAgent: facts.userAgent,
    repository: facts.repository,
    reference: facts.reference,
    cache: facts.cache,
    augmented: facts.isAugmented || undefined,
    upstream: facts.upstream,
    upstreamMs: facts.upstream === undefined ? undefined : tenths(facts.upstreamMs),
    heldMs: facts.heldMs > 0 ? tenths(facts.heldMs) : undefined,
    bytesSent: end.bytesSent,
    bytesReceived: end.bytesReceived,
    aborted: end.isAborted || undefined,
    error: facts.error?.code,
    reason: facts.error?.message,
  };
}

/** `GET /v2/library/alpine/manifests/3 200 1.2ms cache=hit …`, with values that have spaces in quotes. */
function formatLine({ method, path, status, durationMs, ...rest }: Line): string {
  const fields = Object.entries(rest).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${quoteIfNeeded(String(value))}`],
  );
  return [method, quoteIfNeeded(path), status, `${durationMs}ms`, ...fields].join(' ');
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
