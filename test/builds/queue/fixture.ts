// Builds with makers that do what a test says, and a time that passes when a test says so.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import type { Builds } from '../../../src/builds/builds.ts';
import { BuildFailure, type ExecuteOptions } from '../../../src/builds/execution.ts';
import type { LogEntry } from '../../../src/builds/progress.ts';
import { type BuildsDeps, type BuildsPolicy, createBuilds } from '../../../src/builds/queue/create.ts';
import { waitFor } from '../../../src/builds/queue/notifier.ts';
import type { BuildRecord } from '../../../src/builds/record.ts';
import { type Spec, specSchema } from '../../../src/builds/spec.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';

export const DIGEST = digestOf(new TextEncoder().encode('image'));

export const BROKEN = new BuildFailure({
  kind: 'build',
  reason: 'exit code: 2',
  platform: 'linux/arm64',
  step: 'RUN make',
});

const POLICY: BuildsPolicy = {
  concurrency: 2,
  maxQueued: 100,
  maxQueuedPerCaller: 100,
  timeoutMs: 900_000,
  keepMs: 3_600_000,
  maxLogBytes: 100_000,
  infrastructureRetries: 2,
  maxStarts: 3,
};

export function specOf(name: string, rest: object = {}): Spec {
  return specSchema.parse({
    kind: 'containerfile',
    containerFile: `FROM ${name}`,
    platforms: ['linux/amd64', 'linux/arm64'],
    bases: {},
    target: { repository: 'local/builds' },
    ...rest,
  });
}

/** A maker that is at work, until the test says how it ends. */
export interface Work {
  readonly spec: Spec;
  readonly options: ExecuteOptions;
  readonly isOver: boolean;
  succeed(digest?: Digest): void;
  fail(error: unknown): void;
}

interface Timer {
  readonly ms: number;
  goOff(): void;
}

export interface Fixture {
  readonly builds: Builds;
  /** All calls of makers, the latest last. */
  readonly works: readonly Work[];
  /** Who waits for a time to pass. */
  readonly timers: ReadonlySet<Timer>;
  readonly ended: readonly BuildRecord[];
  readonly images: Map<string, Digest>;
  readonly lines: readonly string[];
  readonly directory: string;
  readonly records: RecordStore;
}

export interface FixtureOptions extends Partial<Omit<BuildsDeps, 'policy'>> {
  readonly policy?: Partial<BuildsPolicy>;
  /** What is pushed, where several worlds share it. */
  readonly images?: Map<string, Digest>;
  /** Whether makers go on when they are told to stop. */
  readonly isDeaf?: boolean;
}

/** The looks at what other processes do need nobody to make their time pass. */
const LOOK_MS = 500;

export async function createFixture({
  policy,
  isDeaf = false,
  images = new Map(),
  ...deps
}: FixtureOptions = {}): Promise<Fixture> {
  const works: Work[] = [];
  const ended: BuildRecord[] = [];
  const lines: string[] = [];
  const { timers, wait } = createTimers();
  const directory = deps.directory ?? (await createDirectory());
  const records = deps.records ?? createMemoryStore(deps.now && { now: deps.now });

  async function make(spec: Spec, options: ExecuteOptions): Promise<{ readonly digest: Digest }> {
    const { promise, resolve, reject } = Promise.withResolvers<Digest>();
    if (!isDeaf) options.signal.addEventListener('abort', () => reject(options.signal.reason));
    let isOver = false;
    works.push({
      spec,
      options,
      succeed: (digest = DIGEST) => resolve(digest),
      fail: reject,
      get isOver() {
        return isOver;
      },
    });
    const digest = await promise.finally(() => {
      isOver = true;
    });
    await options.confirm?.();
    images.set(options.image, digest);
    return { digest };
  }

  const builds = await createBuilds({
    records,
    directory,
    executors: { containerfile: make, copy: make },
    imageExists: async (image, digest) => images.get(image) === digest,
    policy: { ...POLICY, ...policy },
    redact: text => text.replaceAll('hunter2', '***'),
    onEnded: record => ended.push(record),
    log: pino({}, { write: line => lines.push(line) }),
    wait,
    ...deps,
  });
  onTestFinished(async () => {
    for (const work of works) work.fail(new Error('the test is over'));
    await builds.close();
  });
  return { builds, works, timers, ended, images, lines, directory, records };
}

function createTimers() {
  const timers = new Set<Timer>();
  return {
    timers,
    wait(ms: number, signal: AbortSignal): Promise<void> {
      if (ms === LOOK_MS) return waitFor(1, signal);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const timer = { ms, goOff: resolve };
      const stop = () => reject(signal.reason);
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop);
      timers.add(timer);
      return promise.finally(() => timers.delete(timer));
    },
  };
}

export async function createDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-builds-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

export const me = { caller: 'me' };

export async function submit({ builds }: Fixture, name: string, options: { caller?: string; priority?: number } = {}) {
  return (await builds.submit(specOf(name), { ...me, ...options })).build;
}

export function ending({ builds }: Fixture, id: string): Promise<BuildRecord | undefined> {
  return builds.wait(id, new AbortController().signal);
}

export async function logOf({ builds }: Fixture, id: string, follow = false): Promise<readonly LogEntry[]> {
  const log = await builds.openLog(id, { follow, signal: new AbortController().signal });
  return log ? Array.fromAsync(log) : [];
}

/** A build that has succeeded. */
export async function built(fixture: Fixture, name: string): Promise<BuildRecord | undefined> {
  const { id } = await submit(fixture, name);
  await until(() => fixture.works.at(-1)?.options.id === id);
  fixture.works.at(-1)?.succeed();
  return ending(fixture, id);
}

/** The timer of so many milliseconds goes off, as soon as there is one. */
export async function pass({ timers }: Fixture, ms: number): Promise<void> {
  const find = () => [...timers].find(timer => timer.ms === ms);
  await until(() => find() !== undefined);
  find()?.goOff();
}

/** Less than a test may take: what never comes is reported. */
const PATIENCE_MS = 120_000;

/** Turns of the event loop, until something is so. How many a file takes is up to the machine: time is the limit. */
export async function until(isSo: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!isSo()) {
    if (performance.now() > deadline) throw new Error(`it never comes to this: ${isSo}`);
    await new Promise(resolve => setImmediate(resolve));
  }
}
