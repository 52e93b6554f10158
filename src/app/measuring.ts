// Metrics: what the rooms report while they work is counted, and what they are is read when metrics are.
import type { Config } from '../config/schema.ts';
import type { RequestEnd } from '../observe/access-log.ts';
import { createMeter, type Meter } from '../observe/metrics.ts';
import type { RequestFacts } from '../observe/request.ts';
import { createRequestMetrics, labelOfStatus, OTHER } from '../observe/request-metrics.ts';
import type { BreakerChange } from '../upstream/limits/breaker.ts';
import type { Exchange } from '../upstream/transport/transport.ts';
import { mirrorName, normalizeName } from '../upstream/upstreams.ts';

/** What the rooms call while they work. */
export interface Measures extends Pick<Meter, 'contentType' | 'format'> {
  readonly onEnd: (facts: RequestFacts, end: RequestEnd) => void;
  readonly onExchange: (exchange: Exchange) => void;
  readonly onBreaker: (change: BreakerChange) => void;
}

/** Undefined where metrics are off: nothing is counted then. */
export function createMeasures({ config }: { readonly config: Config }): Measures | undefined {
  if (!config.metrics.enabled) return undefined;
  const meter = createMeter();
  return {
    onEnd: createRequestMetrics(meter),
    ...measureUpstreams(meter, listUpstreams(config)),
    contentType: meter.contentType,
    format: meter.format,
  };
}

/** Seconds to the head of an answer. */
const ANSWER_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** The names of all that are configured, each mirror by its own. */
function listUpstreams({ upstreams, defaultUpstream }: Config): ReadonlySet<string> {
  const names = Object.entries(upstreams).flatMap(([key, { mirrors }]) => {
    const name = normalizeName(key);
    return [name, ...mirrors.map(({ url }) => mirrorName(name, url))];
  });
  return new Set([normalizeName(defaultUpstream), ...names]);
}

/** Clients and upstreams name others: these are counted together. */
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
      help: '1 while an upstream is not asked, because it fails.',
      labels: ['upstream'],
    },
    () => [...known].map(upstream => ({ labels: { upstream }, value: open.has(upstream) ? 1 : 0 })),
  );
  meter.readGauge(
    {
      ...{ name: 'veneer_upstream_rate_limit_remaining', labels: ['upstream'] },
      help: 'Requests that an upstream said are left of its rate limit, where it says so.',
    },
    () => [...rates].map(([upstream, value]) => ({ labels: { upstream }, value })),
  );

  /** A host that a redirect leads to counts for the upstream that it is of. */
  function labelOf(name: string): string {
    const own = name.replace(/ \(at [^)]*\)$/, '');
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
