// Limits on the requests to one registry: concurrency, rate, a circuit breaker, and the back-off requested by the registry.

import PQueue from 'p-queue';
import { createByteStream, streamSource } from '../../content/byte-stream.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { ResponseHeaders } from '../transport/response.ts';
import type { BlobBody, CallOptions, Endpoint } from '../upstream.ts';
import type { Clock } from '../waiting.ts';
import { type BackOff, type CallKind, createBackOff } from './back-off.ts';
import { type Breaker, type BreakerChange, createBreaker } from './breaker.ts';
import { createRateLimiter, type Rate } from './rate.ts';

/** Absent: not limited. */
export interface LimitPolicy {
  /** Concurrent calls; one for a blob lasts as long as its body. If more than one, blobs leave one for everything else. */
  readonly concurrency?: number | undefined;
  /** How many calls may be queued. */
  readonly queue?: number | undefined;
  readonly rate?: Rate | undefined;
  readonly breaker?: BreakerPolicy | undefined;
}

export interface BreakerPolicy {
  /** 0: never opens. */
  readonly failures: number;
  readonly pauseMs: number;
}

export interface RegistryLimits {
  /** Throws what the work throws; TOOMANYREQUESTS or UNAVAILABLE, with a Retry-After, if the limits reject it; or the signal's reason. */
  run<T>(kind: CallKind, work: () => Promise<T>, options?: CallOptions): Promise<T>;
  /** The same for a call that lasts as long as the body that it opens. */
  open(work: () => Promise<BlobBody>, options?: CallOptions): Promise<BlobBody>;
  readonly requestLimits: RequestLimits;
  /** Shares concurrency, rate and breaker; has its own back-off, since registries limit each client separately. */
  forClient(): RegistryLimits;
}

/** Hooks for each request to the registry itself. */
export interface RequestLimits {
  /** Waits until the request may be sent. Throws TOOMANYREQUESTS, or the signal's reason. */
  waitForRate(signal?: AbortSignal): Promise<void>;
  /** Records the rate limit headers of an answer. */
  observe(headers: ResponseHeaders): void;
}

const DEFAULT_QUEUE = 1000;

export function createRegistryLimits({
  name,
  policy,
  clock,
  onBreaker,
}: {
  /** The registry, for messages. */
  readonly name: string;
  readonly policy: LimitPolicy;
  readonly clock: Clock;
  readonly onBreaker?: ((change: BreakerChange) => void) | undefined;
}): RegistryLimits {
  const { concurrency, queue = DEFAULT_QUEUE, rate, breaker } = policy;
  const waitForRate = rate && createRateLimiter({ name, rate, clock });
  const semaphoreOf = (count: number) => createSemaphore({ name, concurrency: count, maxWaiting: queue });
  const acquire = concurrency === undefined ? undefined : semaphoreOf(concurrency);
  const acquireForBlob = concurrency === undefined || concurrency === 1 ? undefined : semaphoreOf(concurrency - 1);
  const guard = breaker?.failures
    ? createBreaker({ name, ...breaker, clock, onChange: onBreaker })
    : <T>(work: () => Promise<T>) => work();
  const forClient = () =>
    createClientLimits({ guard, acquire, acquireForBlob, waitForRate, backOff: createBackOff(name, clock), forClient });
  return forClient();
}

function createClientLimits({
  guard,
  acquire,
  acquireForBlob,
  waitForRate,
  backOff,
  forClient,
}: Pick<RegistryLimits, 'forClient'> & {
  readonly guard: Breaker;
  readonly acquire: Acquire | undefined;
  /** Acquired before the other one by long-running calls. */
  readonly acquireForBlob: Acquire | undefined;
  readonly waitForRate: ReturnType<typeof createRateLimiter> | undefined;
  readonly backOff: BackOff;
}): RegistryLimits {
  async function attempt<T>(kind: CallKind, work: () => Promise<T>): Promise<T> {
    backOff.require(kind);
    try {
      return await guard(work);
    } catch (error) {
      backOff.failed(error);
      throw error;
    }
  }

  async function acquireBoth(signal: AbortSignal | undefined): Promise<() => void> {
    const freeBlob = await acquireForBlob?.(signal);
    try {
      const free = await acquire?.(signal);
      return () => {
        free?.();
        freeBlob?.();
      };
    } catch (error) {
      freeBlob?.();
      throw error;
    }
  }

  return {
    forClient,
    async run(kind, work, { signal } = {}) {
      const free = await acquire?.(signal);
      try {
        return await attempt(kind, work);
      } finally {
        free?.();
      }
    },
    async open(work, { signal } = {}) {
      const free = await acquireBoth(signal);
      try {
        const { body, size } = await attempt('other', work);
        return { body: acquire ? freeingAtEnd(body, free) : body, size };
      } catch (error) {
        free();
        throw error;
      }
    },
    requestLimits: {
      waitForRate: async signal => waitForRate?.(signal),
      observe: backOff.observe,
    },
  };
}

/** The same endpoint with every call limited; calls additionally throw what the limits throw. */
export function createLimited(endpoint: Endpoint, limits: Pick<RegistryLimits, 'run' | 'open'>): Endpoint {
  return {
    name: endpoint.name,
    headManifest: (repository, reference, options) =>
      limits.run('other', () => endpoint.headManifest(repository, reference, options), options),
    getManifest: (repository, reference, options) =>
      limits.run('manifest', () => endpoint.getManifest(repository, reference, options), options),
    headBlob: (repository, digest, options) =>
      limits.run('other', () => endpoint.headBlob(repository, digest, options), options),
    openBlob: (repository, digest, options) =>
      limits.open(() => endpoint.openBlob(repository, digest, options), options),
    listTags: (repository, page, options) =>
      limits.run('other', () => endpoint.listTags(repository, page, options), options),
    findReferrers: (repository, digest, options) =>
      limits.run('other', () => endpoint.findReferrers(repository, digest, options), options),
  };
}

/** Resolves to its release function. Throws UNAVAILABLE, with a Retry-After, where the queue is full, or the signal's reason. */
type Acquire = (signal?: AbortSignal) => Promise<() => void>;

const RETRY_AFTER_SECONDS = 5;

function createSemaphore({
  name,
  concurrency,
  maxWaiting,
}: {
  /** The upstream, for messages. */
  readonly name: string;
  readonly concurrency: number;
  /** The maximum queue length. */
  readonly maxWaiting: number;
}): Acquire {
  const queue = new PQueue({ concurrency });
  return async signal => {
    if (queue.pending >= concurrency && queue.size >= maxWaiting) {
      const reason = `${concurrency} calls are in progress, and ${queue.size} are waiting`;
      throw new RegistryError('UNAVAILABLE', `${name}: ${reason}`, { retryAfterSeconds: RETRY_AFTER_SECONDS });
    }
    const acquired = Promise.withResolvers<() => void>();
    queue
      .add(() => new Promise<void>(free => acquired.resolve(free)), { ...(signal && { signal }) })
      .catch(acquired.reject);
    return acquired.promise;
  };
}

/** The body, which releases the semaphore when it ends, for whatever reason. */
function freeingAtEnd(body: ReadableStream<Uint8Array>, free: () => void): ReadableStream<Uint8Array> {
  const { read, close } = streamSource(body);
  return createByteStream({
    read,
    close() {
      free();
      return close();
    },
  });
}
