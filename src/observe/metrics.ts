// Metrics in the Prometheus text format, and those of the process: the only file that knows prom-client. An update takes microseconds there, so what changes with
// every request is counted elsewhere, and read at scrape time.
import { type ELDHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from 'prom-client';

/** The name, help and labels of a metric. Conventions: prometheus.io/docs/practices/naming. */
interface About<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly L[];
  /** How the values of several processes become one: default: their sum; `first`: all have the same. */
  readonly aggregator?: 'sum' | 'first' | 'min' | 'max';
}

type Labels<L extends string> = Readonly<Record<L, string>>;

interface Value<L extends string> {
  readonly labels: Labels<L>;
  readonly value: number;
}

interface Distribution<L extends string> {
  readonly labels: Labels<L>;
  /** One for each bound, not cumulative, and one for values beyond the last bound. */
  readonly counts: ArrayLike<number>;
  readonly sum: number;
}

/** In its base unit; ascending. */
interface WithBounds {
  readonly bounds: readonly number[];
}

/** Labels must have a bounded number of values: each combination stays in memory for ever. */
export interface Meter {
  /** Counts. `known`: label values that exist from the start, so that their first event is an increase. */
  counter<L extends string>(about: About<L>, known?: readonly Labels<L>[]): (labels: Labels<L>, by?: number) => void;
  histogram<L extends string>(about: About<L> & WithBounds): (labels: Labels<L>, value: number) => void;
  /** Those below are read at each scrape. */
  readCounter<L extends string>(about: About<L>, read: () => Iterable<Value<L>>): void;
  readGauge<L extends string>(about: About<L>, read: () => Iterable<Value<L>>): void;
  readHistogram<L extends string>(about: About<L> & WithBounds, read: () => Iterable<Distribution<L>>): void;
  readonly contentType: string;
  /** The text of all metrics, together with those that other processes have exported. */
  format(others?: readonly Exported[]): Promise<string>;
  /** All metrics, for the `format` of another process. */
  exportAll(): Promise<Exported>;
}

type Exported = readonly object[];

export function createMeter(): Meter {
  const registry = new Registry();
  const registers = [registry];

  return {
    counter({ labels: labelNames = [], ...about }, known = []) {
      const counter = new Counter({ ...about, labelNames, registers });
      for (const labels of known) counter.inc(labels, 0);
      return (labels, by = 1) => counter.inc(labels, by);
    },
    histogram({ labels: labelNames = [], bounds, ...about }) {
      const histogram = new Histogram({ ...about, labelNames, buckets: [...bounds], registers });
      return (labels, value) => histogram.observe(labels, value);
    },
    readCounter({ labels: labelNames = [], ...about }, read) {
      const counter = new Counter({
        ...{ ...about, labelNames, registers },
        collect() {
          counter.reset();
          for (const { labels, value } of read()) counter.inc(labels, value);
        },
      });
    },
    readGauge({ labels: labelNames = [], ...about }, read) {
      const gauge = new Gauge({
        ...{ ...about, labelNames, registers },
        collect() {
          gauge.reset();
          for (const { labels, value } of read()) gauge.set(labels, value);
        },
      });
    },
    readHistogram({ labels: labelNames = [], bounds, ...about }, read) {
      const histogram = new Histogram({ ...about, labelNames, buckets: [...bounds], registers: [] });
      // It has no other way to be given what was counted before.
      const get = async () => ({
        ...{ name: about.name, help: about.help, type: 'histogram', aggregator: 'sum' },
        values: [...read()].flatMap(each => formatDistribution(about.name, bounds, each)),
      });
      registry.registerMetric(Object.assign(histogram, { get, getForPromString: get }));
    },
    contentType: registry.contentType,
    async format(others = []) {
      if (others.length === 0) return registry.metrics();
      const all = [await registry.getMetricsAsJSON(), ...others.map(each => [...each])];
      return AggregatorRegistry.aggregate(all).metrics();
    },
    exportAll: () => registry.getMetricsAsJSON(),
  };
}

function formatDistribution<L extends string>(
  name: string,
  bounds: readonly number[],
  { labels, counts, sum }: Distribution<L>,
) {
  let count = 0;
  const buckets = [...bounds, '+Inf'].map((le, at) => {
    count += counts[at] ?? 0;
    return { metricName: `${name}_bucket`, labels: { le, ...labels }, value: count };
  });
  return [
    ...buckets,
    { metricName: `${name}_sum`, labels, value: sum },
    { metricName: `${name}_count`, labels, value: count },
  ];
}

// Metrics of the process: its use of CPU and memory, and the duration of event loop iterations, during which no request is served.

const ITERATION_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

/** The caller closes it. */
export function createProcessMetrics(
  meter: Meter,
  { version, commit }: { readonly version: string; readonly commit: string },
): Disposable {
  // Sampled per iteration, instead of by a timer that wakes an idle process.
  const iterations = monitorEventLoopDelay({ samplePerIteration: true });
  iterations.enable();
  meter.readHistogram(
    {
      ...{ name: 'veneer_event_loop_delay_seconds', bounds: ITERATION_BOUNDS },
      help: 'Duration of event loop iterations, during which nothing else runs.',
    },
    () => [{ labels: {}, ...readIterations(iterations) }],
  );
  const startedAt = Date.now() / 1000 - process.uptime();
  meter.readCounter({ name: 'process_cpu_seconds_total', help: 'Time of processors, of all threads.' }, () => {
    const { user, system } = process.cpuUsage();
    return [{ labels: {}, value: (user + system) / 1e6 }];
  });
  meter.readGauge({ name: 'process_resident_memory_bytes', help: 'Memory of the machine in use.' }, () => [
    { labels: {}, value: process.memoryUsage.rss() },
  ]);
  meter.readGauge(
    { name: 'process_start_time_seconds', aggregator: 'min', help: 'When the process began, in seconds since 1970.' },
    () => [{ labels: {}, value: startedAt }],
  );
  const about = { name: 'veneer_build_info', help: 'What runs: always 1.', labels: ['version', 'commit'] } as const;
  meter.readGauge({ ...about, aggregator: 'first' }, () => [{ labels: { version, commit }, value: 1 }]);
  return { [Symbol.dispose]: () => void iterations.disable() };
}

function readIterations(iterations: ELDHistogram) {
  const upTo = ITERATION_BOUNDS.map(bound => countUpTo(iterations, bound * 1e9));
  const counts = [...upTo, iterations.count].map((count, at) => count - (upTo[at - 1] ?? 0));
  return { counts, sum: iterations.count === 0 ? 0 : (iterations.mean * iterations.count) / 1e9 };
}

/** How many values are at most `bound`: a histogram of Node only answers the reverse, by percentile. */
function countUpTo(iterations: ELDHistogram, bound: number): number {
  let count = 0;
  let more = iterations.count;
  while (count < more) {
    const middle = Math.ceil((count + more) / 2);
    if (iterations.percentile((middle / iterations.count) * 100) <= bound) count = middle;
    else more = middle - 1;
  }
  return count;
}
