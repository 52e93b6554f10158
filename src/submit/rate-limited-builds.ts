// Rate-limits builds per caller: new ones count, those in progress or finished do not.
import { type Requester, subjectOf } from '../access/access.ts';
import { type CallerRateLimiter, type CallerRates, createCallerRateLimiter } from '../access/rate-limiter.ts';
import { type Builds, QueueFull, type Submitted } from '../builds/builds.ts';
import type { BuildRecord, PackagesRecord } from '../builds/record.ts';
import type { Spec } from '../builds/spec.ts';
import { toBuildError, toSourceError } from './errors.ts';

/** How many builds a caller may start, by whatever means: a submit, a copy, or a pull that matches a recipe. Each platform counts. */
export function createBuildRateLimiter(
  rates: CallerRates,
  counting?: Parameters<typeof createCallerRateLimiter>[2],
): CallerRateLimiter {
  return createCallerRateLimiter(rates, { what: 'builds', units: 'platforms', key: 'builds.rate' }, counting);
}

/** Every function throws ApiError or RegistryError, with messages for the requester. */
export interface RateLimitedBuilds {
  submit(requester: Requester, spec: Spec, packages?: PackagesRecord): Promise<Submitted>;
  /** The result that `submit` would return, without starting, storing or counting anything. */
  preview(requester: Requester, spec: Spec, packages?: PackagesRecord): Promise<Submitted>;
  /** As Builds has it. */
  retry(requester: Requester, build: BuildRecord): Promise<BuildRecord>;
}

/** `onNew` is called for each new build, once the limiter allows it. */
export function createRateLimitedBuilds(
  builds: Builds,
  limiter: CallerRateLimiter,
  onNew: (requester: Requester, spec: Spec) => void = () => {},
): RateLimitedBuilds {
  async function count(requester: Requester, spec: Spec): Promise<void> {
    // A copy of all platforms counts as one.
    if (!(await withApiErrors(isNew(builds, requester, spec), spec))) return;
    await limiter.consume(requester, spec.platforms?.length ?? 1);
    onNew(requester, spec);
  }

  return {
    preview: ({ caller }, spec, packages) =>
      withApiErrors(builds.preview(spec, { caller: subjectOf(caller), packages }), spec),
    async submit(requester, spec, packages) {
      await count(requester, spec);
      return withApiErrors(builds.submit(spec, { caller: subjectOf(requester.caller), packages }), spec);
    },
    async retry(requester, build) {
      await count(requester, build.spec);
      const retried = builds.retry(build.id, { caller: subjectOf(requester.caller) });
      return (await withApiErrors(retried, build.spec)) ?? build;
    },
  };
}

/** Starts a build for a pull. `plan` is not free: the platforms count before it, and are refunded where nothing new is built. */
export type StartBuildForPull = (plan: () => Promise<Spec>, platforms: number) => Promise<Submitted>;

/** A client with a timeout waits for these. */
const PULL_PRIORITY = 1;

/**
 * Outside of a request nothing is limited. Builds of known callers, or callers on this machine, take precedence over those that no pull
 * waits for. Throws TOOMANYREQUESTS and what `plan` and Builds throw.
 */
export function createStartBuildForPull({
  builds,
  limiter,
  findRequester,
}: {
  readonly builds: Builds;
  readonly limiter: CallerRateLimiter;
  /** The caller of the current pull; undefined outside of a request. */
  readonly findRequester: () => Requester | undefined;
}): StartBuildForPull {
  return async (plan, platforms) => {
    const requester = findRequester();
    if (!requester) return builds.submit(await plan(), { caller: NOBODY, priority: PULL_PRIORITY, isShared: true });
    await limiter.consume(requester, platforms);
    const spec = await plan();
    const isCounted = await isNew(builds, requester, spec, true);
    const caller = subjectOf(requester.caller);
    const isAnonymous = caller === '' && requester.caller.kind !== 'local';
    const submitted = await builds.submit(spec, { caller, priority: isAnonymous ? 0 : PULL_PRIORITY, isShared: true });
    if (!isCounted) await limiter.refund(requester, platforms);
    return submitted;
  };
}

/** User names have no colon. */
const NOBODY = ':recipes';

async function isNew(builds: Builds, { caller }: Requester, spec: Spec, isShared = false): Promise<boolean> {
  const { build, isCached } = await builds.preview(spec, { caller: subjectOf(caller), isShared });
  return !isCached && (await builds.find(build.id)) === undefined;
}

/** Whether an image exists is checked with its registry, too. */
async function withApiErrors<T>(answer: Promise<T>, { target }: Spec): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw error instanceof QueueFull ? toBuildError(error) : toSourceError(error, target.repository);
  }
}
