// Metrics of the process: what it takes of the machine, and how long the turns of its event loop are, since nothing is answered during one.
import { type ELDHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Meter } from './metrics.ts';

const TURN_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5];

/** The caller closes it. */
export function createProcessMetrics(
  meter: Meter,
  { version, commit }: { readonly version: string; readonly commit: string },
): Disposable {
  // Measured as they are, instead of by a timer that wakes an idle process.
  const turns = monitorEventLoopDelay({ samplePerIteration: true });
  turns.enable();
  meter.readHistogram(
    {
      ...{ name: 'veneer_event_loop_delay_seconds', bounds: TURN_BOUNDS },
      help: 'How long turns of the event loop took: nothing else is done meanwhile.',
    },
    () => [{ labels: {}, ...readTurns(turns) }],
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
    { name: 'process_start_time_seconds', help: 'When the process began, in seconds since 1970.' },
    () => [{ labels: {}, value: startedAt }],
  );
  const about = { name: 'veneer_build_info', help: 'What runs: always 1.', labels: ['version', 'commit'] as const };
  meter.readGauge(about, () => [{ labels: { version, commit }, value: 1 }]);
  return { [Symbol.dispose]: () => void turns.disable() };
}

function readTurns(turns: ELDHistogram) {
  const upTo = TURN_BOUNDS.map(bound => countUpTo(turns, bound * 1e9));
  const counts = [...upTo, turns.count].map((count, at) => count - (upTo[at - 1] ?? 0));
  return { counts, sum: turns.count === 0 ? 0 : (turns.mean * turns.count) / 1e9 };
}

/** How many values are at most `bound`: it answers only which value so many are at most. */
function countUpTo(turns: ELDHistogram, bound: number): number {
  let count = 0;
  let more = turns.count;
  while (count < more) {
    const middle = Math.ceil((count + more) / 2);
    if (turns.percentile((middle / turns.count) * 100) <= bound) count = middle;
    else more = middle - 1;
  }
  return count;
}
