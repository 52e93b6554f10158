// Metrics: counts what the rooms report while they work, and reads their current state at scrape time.
import type { Builds } from '../builds/builds.ts';
import type { BuildRecord } from '../builds/record.ts';
import type { EvictionRun } from '../cache/eviction/housekeeping.ts';
import type { Usage } from '../cache/eviction/usage.ts';
import type { Config } from '../config/schema.ts';
import { CONTENT_KINDS, type ContentKind } from '../content/inventory.ts';
import type { Events } from '../events/events.ts';
import { ownName } from '../observe/activity.ts';
import { createMeter, createProcessMetrics, type Meter } from '../observe/metrics.ts';
import type { RequestEnd, RequestFacts } from '../observe/request.ts';
import { createRequestMetrics, labelOfStatus, OTHER } from '../observe/request-metrics.ts';
import type { BreakerChange } from '../upstream/limits/breaker.ts';
import type { Exchange } from '../upstream/transport/transport.ts';
import { mirrorName, normalizeName } from '../upstream/upstreams.ts';
import type { Peers } from './worker.ts';

/** Callbacks for the rooms. */
export interface Measures extends Pick<Meter, 'contentType'> {
  /** The text of all metrics, of all workers. */
  format(): Promise<string>;
  readonly onEnd: (facts: RequestFacts, end: RequestEnd) => void;
  readonly onExchange: (exchange: Exchange) => void;
  readonly onBreaker: (change: BreakerChange) => void;
  /** Called when a request starts to wait for a build; the result is to be called when it stops waiting. */
  readonly onBuildWait: () => () => void;
  readonly onBuildEnded: (build: BuildRecord) => void;
  /** Called when an image was derived, or could not be. */
  readonly onDerived: (derivation: { readonly durationMs: number; readonly hasFailed: boolean }) => void;
  readonly onEvicted: (run: EvictionRun) => void;
  readonly onDamaged: (damaged: { readonly of: ContentKind; readonly isRestored: boolean }) => void;
  /** Called for each request that the object store asked to come later. */
  readonly onThrottled: () => void;
  /** To be called once, with the state that is read at scrape time. */
  watch(parts: WatchedParts): void;
  close(): void;
}

interface WatchedParts {
  readonly builds: Pick<Builds, 'counts'>;
  readonly events: Pick<Events, 'queues'>;
  /** The usage of the cache. */
  readonly usage: Pick<Usage, 'bytes' | 'count'>;
}

/** Undefined if metrics are switched off. The caller closes it. */
export function createMeasures({
  config,
  peers,
  ...about
}: {
  readonly config: Config;
  /** Other processes that serve with this one. */
  readonly peers?: Pick<Peers, 'askForMetrics' | 'onMetricsAsked'> | undefined;
  readonly version: string;
  readonly commit: string;
}): Measures | undefined {
  if (!config.metrics.enabled) return undefined;
  const meter = createMeter();
  const ofProcess = createProcessMetrics(meter, about);
  peers?.onMetricsAsked(meter.exportAll);
  return {
    onEnd: createRequestMetrics(meter),
    ...measureUpstreams(meter, listUpstreams(config)),
    ...measureBuilds(meter),
    ...measureContent(meter),
    watch: parts => watchParts(meter, parts, config),
    contentType: meter.contentType,
    format: async () => meter.format(await peers?.askForMetrics()),
    close: () => ofProcess[Symbol.dispose](),
  };
}

/** Seconds until the head of a response. */
const ANSWER_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** The names of all configured upstreams, each mirror by its own. */
function listUpstreams({ upstreams, defaultUpstream }: Config): ReadonlySet<string> {
  const names = Object.entries(upstreams).flatMap(([key, { mirrors }]) => {
    const name = normalizeName(key);
    return [name, ...mirrors.map(({ url }) => mirrorName(name, url))];
  });
  return new Set([normalizeName(defaultUpstream), ...names]);
}

/** Upstreams outside the configuration are named by clients or redirects: they share one label. */
function measureUpstreams(meter: Meter, known: ReadonlySet<string>): Pick<Measures, 'onExchange' | 'onBreaker'> {
  const open = new Set<string>();
  const rates = new Map<string, number>();
  const answered = meter.counter({
    ...{ name: 'veneer_upstream_requests_total', labels: ['upstream', 'status'] },
    help: 'Requests to upstreams, by the status of the answer; none: there was no answer.',
  });
  const took = meter.histogram({
    ...{ name: 'veneer_upstream_request_duration_seconds', labels: ['upstream'], bounds: ANSWER_BOUNDS },
    help: 'From a request to an upstream to the head of its answer.',
  });
  meter.readGauge(
    {
      name: 'veneer_upstream_breaker_open',
      aggregator: 'max',
      help: '1 while an upstream is not asked, because it fails.',
      labels: ['upstream'],
    },
    () => [...known].map(upstream => ({ labels: { upstream }, value: open.has(upstream) ? 1 : 0 })),
  );
  meter.readGauge(
    {
      ...{ name: 'veneer_upstream_rate_limit_remaining', labels: ['upstream'], aggregator: 'min' },
      help: 'Requests that an upstream said are left of its rate limit, where it says so.',
    },
    () => [...rates].map(([upstream, value]) => ({ labels: { upstream }, value })),
  );

  /** The host of a redirect counts for its upstream. */
  function labelOf(name: string): string {
    const own = ownName(name);
    return known.has(own) ? own : OTHER;
  }

  return {
    onExchange({ upstream: name, status, durationMs, rateRemaining }) {
      const upstream = labelOf(name);
      answered({ upstream, status: status === undefined ? 'none' : labelOfStatus(status) });
      took({ upstream }, durationMs / 1000);
      if (rateRemaining !== undefined && known.has(name)) rates.set(name, rateRemaining);
    },
    onBreaker({ upstream, state }) {
      if (state === 'closed') open.delete(upstream);
      else if (known.has(upstream)) open.add(upstream);
    },
  };
}

const BUILD_BOUNDS = [1, 5, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600];
/** Seconds of a rewrite, which reads the documents of an image, and sometimes its layers. */
const DERIVATION_BOUNDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

function measureBuilds(meter: Meter): Pick<Measures, 'onBuildWait' | 'onBuildEnded' | 'onDerived'> {
  let held = 0;
  meter.readGauge({ name: 'veneer_held_requests', help: 'Requests that wait for a build.' }, () => [
    { labels: {}, value: held },
  ]);
  const waited = meter.histogram({
    ...{ name: 'veneer_hold_duration_seconds', bounds: BUILD_BOUNDS },
    help: 'How long a request waited for a build.',
  });
  const ended = meter.counter({
    ...{ name: 'veneer_builds_total', labels: ['kind', 'result'] },
    help: 'Builds that ended: succeeded, or the kind of their failure.',
  });
  const ran = meter.histogram({
    ...{ name: 'veneer_build_duration_seconds', labels: ['kind'], bounds: BUILD_BOUNDS },
    help: 'From the first start of a build to its end.',
  });
  const queued = meter.histogram({
    ...{ name: 'veneer_build_wait_seconds', labels: ['kind'], bounds: BUILD_BOUNDS },
    help: 'From the request for a build to its first start.',
  });
  const derived = meter.counter(
    {
      ...{ name: 'veneer_derived_images_total', labels: ['result'] },
      help: 'Images that were derived for a rule or a token: made, or failed.',
    },
    [{ result: 'made' }, { result: 'failed' }],
  );
  const derivation = meter.histogram({
    ...{ name: 'veneer_derivation_duration_seconds', bounds: DERIVATION_BOUNDS },
    help: 'How long it took to derive an image.',
  });
  return {
    onBuildWait() {
      const begunAt = performance.now();
      held += 1;
      return () => {
        held -= 1;
        waited({}, (performance.now() - begunAt) / 1000);
      };
    },
    onBuildEnded({ spec: { kind }, failure, createdAt, startedAt, endedAt }) {
      ended({ kind, result: failure?.kind ?? 'succeeded' });
      if (startedAt === undefined || endedAt === undefined) return;
      queued({ kind }, secondsBetween(createdAt, startedAt));
      ran({ kind }, secondsBetween(startedAt, endedAt));
    },
    onDerived({ durationMs, hasFailed }) {
      derived({ result: hasFailed ? 'failed' : 'made' });
      if (!hasFailed) derivation({}, durationMs / 1000);
    },
  };
}

/** The clock may have been set back. */
function secondsBetween(from: string, to: string): number {
  return Math.max(0, Date.parse(to) - Date.parse(from)) / 1000;
}

function measureContent(meter: Meter): Pick<Measures, 'onEvicted' | 'onDamaged' | 'onThrottled'> {
  const reasons: readonly EvictionRun['reason'][] = ['budget', 'number', 'age', 'full disk'];
  const known = reasons.map(reason => ({ reason }));
  const evicted = meter.counter(
    { name: 'veneer_cache_evicted_total', help: 'Blobs and manifests that were evicted.', labels: ['reason'] },
    known,
  );
  const freed = meter.counter(
    { name: 'veneer_cache_evicted_bytes_total', help: 'Their bytes.', labels: ['reason'] },
    known,
  );
  const damages = meter.counter(
    {
      ...{ name: 'veneer_content_damaged_total', labels: ['of', 'restored'] },
      help: 'Stored content that the disk has damaged, found by the scrubber or a reader; restored: from memory.',
    },
    CONTENT_KINDS.map(of => ({ of, restored: 'false' })),
  );
  const throttled = meter.counter({
    name: 'veneer_bucket_throttled_total',
    help: 'Requests that the object store asked to come later, such as by SlowDown.',
  });
  return {
    onEvicted({ reason, count, bytes }) {
      evicted({ reason }, count);
      freed({ reason }, bytes);
    },
    onDamaged: ({ of, isRestored }) => damages({ of, restored: String(isRestored) }),
    onThrottled: () => throttled({}),
  };
}

function watchParts(meter: Meter, { builds, events, usage }: WatchedParts, { cache }: Config): void {
  const single = (value: number | undefined) => (value === undefined ? [] : [{ labels: {}, value }]);
  meter.readGauge(
    { name: 'veneer_builds_in_progress', help: 'Builds that are queued or running.', labels: ['state'] },
    () => Object.entries(builds.counts()).map(([state, value]) => ({ labels: { state }, value })),
  );
  meter.readGauge({ name: 'veneer_cache_size_bytes', help: 'What the cache of upstreams has.' }, () =>
    single(usage.bytes),
  );
  meter.readGauge({ name: 'veneer_cache_items', help: 'Blobs and manifests in it.' }, () => single(usage.count));
  meter.readGauge({ name: 'veneer_cache_limit_bytes', help: 'Above it, what was used least is evicted.' }, () =>
    single(cache.budget.highBytes),
  );
  const labels = ['endpoint'] as const;
  meter.readGauge({ name: 'veneer_webhook_backlog_events', help: 'Events that are not delivered yet.', labels }, () =>
    events.queues().map(({ endpoint, waiting }) => ({ labels: { endpoint }, value: waiting })),
  );
  meter.readCounter(
    { name: 'veneer_webhook_dropped_events_total', help: 'Events that were refused, or were too many.', labels },
    () => events.queues().map(({ endpoint, dropped }) => ({ labels: { endpoint }, value: dropped })),
  );
}
