// Metrics of requests, from the same facts as the access log. Plain numbers in maps, to keep the cost per request low.
import { STATUS_CODES } from 'node:http';
import type { Meter } from './metrics.ts';
import type { CacheResult, RequestFacts } from './request.ts';
import { CLIENT_LEFT, type RequestEnd } from './request.ts';

/** Seconds to the last byte: from a manifest in memory to a large layer. */
const BOUNDS = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

const METHODS: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];
/** Replaces label values that clients or upstreams choose. */
export const OTHER = 'other';

/** Totals for one method of one route. */
interface Tally {
  readonly labels: { readonly method: string; readonly route: string };
  readonly statuses: Map<string, number>;
  readonly lookups: Map<CacheResult, number>;
  readonly durations: number[];
  seconds: number;
  sentBytes: number;
  receivedBytes: number;
}

/** Returns a callback for the end of each request. */
export function createRequestMetrics(meter: Meter): (facts: RequestFacts, end: RequestEnd) => void {
  const routes = new Map<string, Map<string, Tally>>();
  const rules = new Map<string, number>();
  let augmented = 0;

  function tallyOf(route: string, asked: string): Tally {
    const method = METHODS.includes(asked) ? asked : OTHER;
    const methods = routes.get(route) ?? new Map<string, Tally>();
    const known = methods.get(method);
    if (known) return known;
    const tally = createTally(route, method);
    routes.set(route, methods.set(method, tally));
    return tally;
  }

  const tallies = () => routes.values().flatMap(methods => methods.values());
  const perTally = (value: (tally: Tally) => number) => () =>
    tallies().map(tally => ({ labels: tally.labels, value: value(tally) }));
  const labels = ['method', 'route'] as const;

  meter.readCounter(
    {
      name: 'veneer_http_requests_total',
      help: 'Requests, by the status that was sent.',
      labels: [...labels, 'status'],
    },
    () => tallies().flatMap(tally => valuesOf(tally.statuses, status => ({ ...tally.labels, status }))),
  );
  meter.readHistogram(
    {
      ...{ name: 'veneer_http_request_duration_seconds', bounds: BOUNDS, labels },
      help: 'From the head of a request to the last byte of its answer.',
    },
    () => tallies().map(tally => ({ labels: tally.labels, counts: tally.durations, sum: tally.seconds })),
  );
  meter.readCounter(
    { name: 'veneer_http_sent_bytes_total', help: 'Sent to clients, with heads.', labels },
    perTally(({ sentBytes }) => sentBytes),
  );
  meter.readCounter(
    { name: 'veneer_http_received_bytes_total', help: 'Received from clients, with heads.', labels },
    perTally(({ receivedBytes }) => receivedBytes),
  );
  meter.readCounter(
    {
      ...{ name: 'veneer_cache_requests_total', labels: [...labels, 'result'] },
      help: 'Requests for content of upstreams, by how it was found.',
    },
    () => tallies().flatMap(tally => valuesOf(tally.lookups, result => ({ ...tally.labels, result }))),
  );
  meter.readCounter(
    { name: 'veneer_augmented_requests_total', help: 'Requests that a rule or a token made the answer of.' },
    () => [{ labels: {}, value: augmented }],
  );
  meter.readCounter(
    { name: 'veneer_rule_requests_total', help: 'Requests that a rule was applied for.', labels: ['rule'] },
    () => valuesOf(rules, rule => ({ rule })),
  );

  return (facts, { status, durationMs, bytesSent = 0, bytesReceived = 0 }) => {
    const tally = tallyOf(facts.route, facts.method);
    increase(tally.statuses, labelOfStatus(status));
    if (facts.cache) increase(tally.lookups, facts.cache);
    const seconds = durationMs / 1000;
    let at = 0;
    while (seconds > (BOUNDS[at] ?? Number.POSITIVE_INFINITY)) at += 1;
    tally.durations[at] = (tally.durations[at] ?? 0) + 1;
    tally.seconds += seconds;
    tally.sentBytes += bytesSent;
    tally.receivedBytes += bytesReceived;
    if (facts.isAugmented) augmented += 1;
    for (const rule of facts.appliedRules) increase(rules, rule);
  };
}

function createTally(route: string, method: string): Tally {
  return {
    labels: { method, route: nameOfRoute(route) },
    ...{ statuses: new Map(), lookups: new Map(), durations: new Array(BOUNDS.length + 1).fill(0) },
    ...{ seconds: 0, sentBytes: 0, receivedBytes: 0 },
  };
}

/** `/v2/:name{.+}/manifests/:reference` as `/v2/{name}/manifests/{reference}`; a pattern that ends in a star is middleware, not a route. */
export function nameOfRoute(path: string): string {
  return path.endsWith('*') || path === '' ? OTHER : path.replace(/:(\w+)(?:\{[^}]*\})?/g, '{$1}');
}

/** The status of an upstream may be any number, and is passed on. */
export function labelOfStatus(status: number): string {
  const isKnown = STATUS_CODES[status] !== undefined || status === CLIENT_LEFT;
  return isKnown ? String(status) : `${Math.floor(status / 100)}xx`;
}

function increase<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function valuesOf<K, L>(counts: ReadonlyMap<K, number>, describe: (key: K) => L) {
  return [...counts].map(([key, value]) => ({ labels: describe(key), value }));
}
