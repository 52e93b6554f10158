// Builds that callers begin: what is new counts against the caller's rate, what is under way or built already does not.
import { type Requester, subjectOf } from '../access/caller.ts';
import { type CallerRate, type CallerRates, createCallerRate } from '../access/caller-rate.ts';
import { type Builds, QueueFull, type Submitted } from '../builds/builds.ts';
import type { BuildRecord } from '../builds/record.ts';
import type { Spec } from '../builds/spec.ts';
import { toBuildError, toSourceError } from './errors.ts';

/**
 * How many builds a caller may have begun, whatever begins them: a submit, a copy, a pull that a recipe is for. Each platform of one counts, and
 * what is built already is free.
 */
export function createBuildRate(rates: CallerRates): CallerRate {
  return createCallerRate(rates, { what: 'builds', units: 'platforms', key: 'builds.rate' });
}

/** Every function throws ApiError or RegistryError, in words for people. */
export interface RatedBuilds {
  submit(requester: Requester, spec: Spec): Promise<Submitted>;
  /** What `submit` would answer. Nothing is started, kept or counted. */
  preview(requester: Requester, spec: Spec): Promise<Submitted>;
  /** As Builds has it. */
  retry(requester: Requester, build: BuildRecord): Promise<BuildRecord>;
}

export function createRatedBuilds(builds: Builds, rate: CallerRate): RatedBuilds {
  async function count(requester: Requester, spec: Spec): Promise<void> {
    // A copy of all platforms counts as one.
    if (await worded(isNew(builds, requester, spec), spec)) await rate.count(requester, spec.platforms?.length ?? 1);
  }

  return {
    preview: ({ caller }, spec) => worded(builds.preview(spec, { caller: subjectOf(caller) }), spec),
    async submit(requester, spec) {
      await count(requester, spec);
      return worded(builds.submit(spec, { caller: subjectOf(requester.caller) }), spec);
    },
    async retry(requester, build) {
      await count(requester, build.spec);
      const retried = builds.retry(build.id, { caller: subjectOf(requester.caller) });
      return (await worded(retried, build.spec)) ?? build;
    },
  };
}

/** A build that a pull begins. `plan` is not free: its platforms count before it, and are given back where nothing new comes of it. */
export type StartPulled = (plan: () => Promise<Spec>, platforms: number) => Promise<Submitted>;

interface StartPulledDeps {
  readonly builds: Builds;
  readonly rate: CallerRate;
  /** Whose request is pulling; undefined outside of any. */
  readonly findRequester: () => Requester | undefined;
}

/** Somebody waits for these with a client that gives up. */
const PULL_PRIORITY = 1;

/**
 * What nobody's request asks for is not limited. Builds of callers who are known, or on this machine, go before those that no pull waits for.
 * Throws TOOMANYREQUESTS and what `plan` and Builds throw.
 */
export function createStartPulled({ builds, rate, findRequester }: StartPulledDeps): StartPulled {
  return async (plan, platforms) => {
    const requester = findRequester();
    if (!requester) return builds.submit(await plan(), { caller: NOBODY, priority: PULL_PRIORITY });
    await rate.count(requester, platforms);
    const spec = await plan();
    const isCounted = await isNew(builds, requester, spec);
    const caller = subjectOf(requester.caller);
    const isStranger = caller === '' && requester.caller.kind !== 'local';
    const submitted = await builds.submit(spec, { caller, priority: isStranger ? 0 : PULL_PRIORITY });
    if (!isCounted) await rate.giveBack(requester, platforms);
    return submitted;
  };
}

/** No user has a colon in its name. */
const NOBODY = ':recipes';

async function isNew(builds: Builds, { caller }: Requester, spec: Spec): Promise<boolean> {
  const { build, isCached } = await builds.preview(spec, { caller: subjectOf(caller) });
  return !isCached && (await builds.find(build.id)) === undefined;
}

/** Whether an image is there is asked of its registry, too. */
async function worded<T>(answer: Promise<T>, { target }: Spec): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw error instanceof QueueFull ? toBuildError(error) : toSourceError(error, target.repository);
  }
}
