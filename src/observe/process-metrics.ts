// Metrics of the process: its use of CPU and memory, and the duration of event loop iterations, during which no request is served.
import { type ELDHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Meter } from './metrics.ts';

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
