// The clock for everything that deletes by age. The machine's own may be wrong for a while, for instance until NTP has set it: a jump is
// trusted after an hour of uptime, across restarts too, since elapsed time is stored in a file.
import { readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';

export interface Clock {
  /** For timestamps. While the clock is behind the elapsed time, it advances from that, so that nothing new appears old. */
  now(): Date;
  /** The time to delete by. Undefined while the clock is ahead of the elapsed time and not yet trusted: nothing may be deleted. */
  deleteBy(): Date | undefined;
  /** What is wrong with the clock, for the operator; undefined: nothing. */
  findJump(): string | undefined;
  close(): Promise<void>;
}

/** A smaller deviation is not an error. */
const TOLERANCE_MS = 5 * 60_000;
/** A service stop of this length is not a jump. More than WRITE_EVERY_MS, which a crash may add. */
const DOWNTIME_MS = 3_600_000;
const CONFIRM_MS = 3_600_000;
const OBSERVE_EVERY_MS = 60_000;
const WRITE_EVERY_MS = 10 * 60_000;

const FILE = 'clock.json';

const storedSchema = z.object({
  /** A lower bound of the current time, in milliseconds since 1970. */
  passed: z.number(),
  /** How far the clock was off then, and for how long that had lasted. */
  doubt: z.object({ offMs: z.number(), stoodMs: z.number() }).optional(),
});

type Stored = z.infer<typeof storedSchema>;

interface ClockJump {
  /** By how much the clock is ahead of the elapsed time. */
  readonly offMs: number;
  readonly sinceMs: number;
}

/** The time is in its file when it resolves, unless the disk is full: a later write stores it then. */
export async function createClock(deps: {
  /** The data directory, which must exist. */
  readonly directory: string;
  readonly now?: (() => Date) | undefined;
  /** Monotonic milliseconds. */
  readonly uptimeMs?: (() => number) | undefined;
  /** Called once for each jump, and `onTrust` at its end. */
  readonly onJump?: ((description: string) => void) | undefined;
  readonly onTrust?: (() => void) | undefined;
  /** False: another process writes the file. */
  readonly isKept?: boolean | undefined;
}): Promise<Clock> {
  const {
    directory,
    now = () => new Date(),
    uptimeMs = () => performance.now(),
    onJump,
    onTrust,
    isKept = true,
  } = deps;
  const path = join(directory, FILE);
  const stored = readStored(path);
  // The elapsed time at some point of the uptime; it advances with the uptime.
  let trusted = { ms: stored?.passed ?? now().getTime(), atMs: uptimeMs() };
  let jump: ClockJump | undefined;
  let toleranceMs = DOWNTIME_MS;
  let writtenAtMs = Number.NEGATIVE_INFINITY;
  let writing: Promise<void> = Promise.resolve();

  function observe(): { readonly clockMs: number; readonly passedMs: number } {
    const clockMs = now().getTime();
    const atMs = uptimeMs();
    const passedMs = trusted.ms + (atMs - trusted.atMs);
    const offMs = clockMs - passedMs;
    if (offMs <= toleranceMs && offMs >= -TOLERANCE_MS) return trust(clockMs, atMs);
    // Another jump meanwhile restarts the hour.
    if (!jump || Math.abs(offMs - jump.offMs) > TOLERANCE_MS) begin({ offMs, sinceMs: atMs - earlierDuration(offMs) });
    else if (atMs - jump.sinceMs >= CONFIRM_MS) return trust(clockMs, atMs);
    return { clockMs, passedMs };
  }

  function trust(clockMs: number, atMs: number) {
    toleranceMs = TOLERANCE_MS;
    trusted = { ms: clockMs, atMs };
    const hadJump = jump !== undefined;
    jump = undefined;
    if (hadJump) onTrust?.();
    return { clockMs, passedMs: clockMs };
  }

  function begin(next: ClockJump): void {
    toleranceMs = TOLERANCE_MS;
    jump = next;
    onJump?.(describe(next));
  }

  /** In earlier runs: otherwise a machine that never runs for an hour would never trust its clock. */
  function earlierDuration(offMs: number): number {
    const before = jump ? undefined : stored?.doubt;
    const isSame = before && Math.sign(before.offMs) === Math.sign(offMs) && offMs >= before.offMs - TOLERANCE_MS;
    return isSame ? before.stoodMs : 0;
  }

  async function writeIfDue(): Promise<void> {
    if (!isKept || uptimeMs() - writtenAtMs < WRITE_EVERY_MS) return;
    writtenAtMs = uptimeMs();
    const { passedMs } = observe();
    const standing = jump && { offMs: jump.offMs, stoodMs: uptimeMs() - jump.sinceMs };
    await write(path, { passed: passedMs, ...(standing && { doubt: standing }) });
  }

  function save(): Promise<void> {
    writing = writing.then(writeIfDue).catch(() => {});
    return writing;
  }

  observe();
  await save();
  const timer = setInterval(() => {
    observe();
    void save();
  }, OBSERVE_EVERY_MS);
  timer.unref();

  return {
    now() {
      const { clockMs, passedMs } = observe();
      return new Date(jump && jump.offMs < 0 ? passedMs : clockMs);
    },
    deleteBy() {
      const { clockMs } = observe();
      return jump && jump.offMs > 0 ? undefined : new Date(clockMs);
    },
    findJump() {
      observe();
      return jump && describe(jump);
    },
    async close() {
      clearInterval(timer);
      writtenAtMs = Number.NEGATIVE_INFINITY;
      await save();
    },
  };
}

const UNITS: readonly [string, number][] = [
  ['days', 86_400_000],
  ['hours', 3_600_000],
  ['minutes', 60_000],
];

function describe({ offMs }: ClockJump): string {
  const [unit, ms] = UNITS.find(([, ms]) => Math.abs(offMs) >= 2 * ms) ?? ['seconds', 1000];
  const by = `${Math.floor(Math.abs(offMs) / ms)} ${unit}`;
  const untilThen = 'until it is set back, or has been stable for an hour of uptime';
  return offMs > 0
    ? `the clock is ${by} ahead of the elapsed time: nothing is deleted by age ${untilThen}`
    : `the clock is ${by} behind the elapsed time: timestamps follow the elapsed time ${untilThen}`;
}

/** A file spoilt by a power cut counts as none. */
function readStored(path: string): Stored | undefined {
  try {
    return storedSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

async function write(path: string, stored: Stored): Promise<void> {
  const file = await open(`${path}.new`, 'w', 0o600);
  try {
    await file.writeFile(JSON.stringify(stored));
    await file.datasync();
  } finally {
    await file.close();
  }
  await rename(`${path}.new`, path);
}
