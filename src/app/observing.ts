// Connects the callbacks of the rooms to the facts of the request that they work for.
import { type Logger, stdSerializers } from 'pino';
import type { PrepareRun } from '../builds/queue/jobs.ts';
import type { Lookup } from '../cache/read-through/manifests.ts';
import { StorageFailure } from '../content/store.ts';
import type { OnBegin } from '../http/middleware/request-log.ts';
import { type Activity, createActivityLog } from '../observe/activity.ts';
import type { RequestEnd, WriteAccessLog } from '../observe/request.ts';
import {
  beginWork,
  type CacheResult,
  createRequestScope,
  noteLookup,
  type RequestFacts,
  type RequestScope,
} from '../observe/request.ts';
import { nameOfRoute } from '../observe/request-metrics.ts';
import type { TraceSpan, Tracing } from '../observe/tracing.ts';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';
import { isTransient } from '../state/store.ts';
import type { BreakerChange } from '../upstream/limits/breaker.ts';
import type { Exchange, TraceRequest } from '../upstream/transport/transport.ts';
import type { Measures } from './measuring.ts';

/** Callbacks for the rooms. */
export interface Observer {
  readonly scope: RequestScope;
  /** Undefined without traces, like the two below. */
  readonly onBegin: OnBegin | undefined;
  readonly onEnd: (facts: RequestFacts, end: RequestEnd) => void;
  readonly onTag: (result: Exclude<CacheResult, 'miss'>) => void;
  readonly onManifest: (result: Lookup) => void;
  readonly onBlob: (result: Lookup) => void;
  readonly onAugmented: (steps: readonly { readonly rule?: string | undefined }[]) => void;
  readonly onDerived: Measures['onDerived'] | undefined;
  readonly onExchange: (exchange: Exchange) => void;
  readonly traceRequest: TraceRequest | undefined;
  readonly prepareBuild: PrepareRun | undefined;
  readonly onBreaker: (change: BreakerChange) => void;
  /** Measures a wait for a build. */
  readonly timeWait: <T>(waiting: Promise<T>) => Promise<T>;
  /** The configured upstreams whose breaker is open; others were named by clients. */
  readonly listBroken: () => readonly string[];
  readonly activity: Activity;
}

/** `upstreams`: the names of the configured ones. */
export function createObserver(
  writeAccessLog: WriteAccessLog,
  {
    upstreams,
    measures,
    tracing,
    now,
  }: {
    readonly upstreams: ReadonlySet<string>;
    readonly measures?: Measures | undefined;
    readonly tracing?: Tracing | undefined;
    readonly now: () => Date;
  },
): Observer {
  const scope = createRequestScope();
  const broken = new Set<string>();
  const onLookup = (result: CacheResult) => noteLookup(scope.current(), result);
  const activityLog = createActivityLog(upstreams, now);
  return {
    scope,
    ...traceWith(tracing, scope),
    onEnd(facts, end) {
      writeAccessLog(facts, end);
      measures?.onEnd(facts, end);
      activityLog.onEnd(facts, end);
      if (facts.span) endRequestSpan(facts.span, facts, end);
    },
    onTag: onLookup,
    onManifest: onLookup,
    onBlob: onLookup,
    onAugmented(steps) {
      const request = scope.current();
      if (!request) return;
      request.isAugmented = true;
      request.appliedRules = steps.flatMap(({ rule }) => rule ?? []);
    },
    onDerived: measures?.onDerived,
    onExchange(exchange) {
      measures?.onExchange(exchange);
      activityLog.onExchange(exchange);
      const { upstream, durationMs } = exchange;
      const request = scope.current();
      if (!request) return;
      request.upstream = upstream;
      request.upstreamMs += durationMs;
    },
    onBreaker(change) {
      measures?.onBreaker(change);
      activityLog.onBreaker(change);
      const { upstream, state } = change;
      if (state === 'closed') broken.delete(upstream);
      else if (upstreams.has(upstream)) broken.add(upstream);
    },
    async timeWait(waiting) {
      const request = scope.current();
      const begunAt = performance.now();
      const onEnded = measures?.onBuildWait();
      try {
        return await waiting;
      } finally {
        onEnded?.();
        if (request) request.heldMs += performance.now() - begunAt;
      }
    },
    listBroken: () => [...broken],
    activity: activityLog.activity,
  };
}

type Traced = Pick<Observer, 'onBegin' | 'traceRequest' | 'prepareBuild'>;

function traceWith(tracing: Tracing | undefined, scope: RequestScope): Traced {
  if (!tracing) return { onBegin: undefined, traceRequest: undefined, prepareBuild: undefined };
  const current = () => scope.current()?.span?.traceparent;
  // There are few, and each request has one.
  const names = new Map<string, string>();
  const nameOf = (route: string) => {
    const name = names.get(route) ?? nameOfRoute(route);
    names.set(route, name);
    return name;
  };
  return {
    onBegin(facts, parent) {
      const { method, path } = facts;
      const route = facts.route === '' ? undefined : nameOf(facts.route);
      facts.span = tracing.start({
        ...{ name: route === undefined ? method : `${method} ${route}`, kind: 'server', parent },
        describe: () => ({ 'http.request.method': method, 'url.path': path, 'http.route': route }),
      });
      facts.traceId = facts.span.traceId;
    },
    traceRequest({ method, upstream, url: { origin, pathname, hostname } }) {
      const span = tracing.start({
        ...{ name: method, kind: 'client', parent: current() },
        describe: () => ({
          ...{ 'http.request.method': method, 'server.address': hostname, 'veneer.upstream': upstream },
          // Without the query, which may contain credentials.
          'url.full': `${origin}${pathname}`,
        }),
      });
      return {
        headers: { traceparent: span.traceparent },
        end: status =>
          span.end(() => ({
            attributes: { 'http.response.status_code': status },
            error: status === undefined ? 'no answer' : errorOfStatus(status),
          })),
      };
    },
    prepareBuild() {
      const parent = current();
      return async (job, work) => {
        const { id, image, spec } = job.record;
        const describe = () => ({
          'veneer.build': id,
          'veneer.image': image,
          'veneer.platforms': spec.platforms?.join(','),
        });
        const name = spec.kind === 'copy' ? 'copy' : 'build';
        const span = tracing.start({ name, kind: 'internal', parent, describe });
        await scope.run(beginWork(span), work);
        const { failure, backends } = job.record;
        span.end(() => ({ attributes: { 'veneer.backends': backends.join(',') || undefined }, error: failure?.kind }));
      };
    },
  };
}

/** Errors of the client are not errors of the span. */
function errorOfStatus(status: number): string | undefined {
  return status >= 500 ? String(status) : undefined;
}

function endRequestSpan(span: TraceSpan, facts: RequestFacts, { status, bytesSent, isAborted }: RequestEnd): void {
  span.end(() => ({
    attributes: {
      ...{ 'http.response.status_code': status, 'http.response.size': bytesSent },
      ...{ 'client.address': facts.address, 'user_agent.original': facts.userAgent, 'enduser.id': facts.caller },
      ...{ 'veneer.request_id': facts.id, 'veneer.repository': facts.repository, 'veneer.reference': facts.reference },
      ...{ 'veneer.cache': facts.cache, 'veneer.augmented': facts.isAugmented || undefined },
      'veneer.held_ms': facts.heldMs > 0 ? Math.round(facts.heldMs) : undefined,
      'veneer.aborted': isAborted || undefined,
      'veneer.reason': facts.error?.message,
    },
    error: errorOfStatus(status),
  }));
}

/** Errors that are no fault of ours are logged as one line, without a stack. */
export function withBriefErrors(log: Logger): Logger {
  return log.child({}, { serializers: { err: describeError } });
}

function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if (!isForeign(error)) return stdSerializers.err(error);
  const chain: string[] = [];
  for (let each: unknown = error; each instanceof Error && chain.length < MAX_CAUSES; each = each.cause) {
    if (!chain.includes(each.message)) chain.push(each.message);
  }
  return chain.join(': ');
}

const MAX_CAUSES = 5;

/** An error of upstreams, builders, the disk or other programs: it has a class of ours or a system error code, and its message suffices. */
function isForeign(error: Error): boolean {
  const isExpected = [RegistryError, ContentMismatch, StorageFailure].some(known => error instanceof known);
  return (
    isExpected ||
    isTransient(error) ||
    ('code' in error && typeof error.code === 'string' && /^E[A-Z\d]+$/.test(error.code))
  );
}
