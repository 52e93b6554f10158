// Builds that callers begin: what is new counts against the caller's rate, what is under way or built already does not.
import type { Context } from 'hono';
import { tryGetContext } from 'hono/context-storage';
import { subjectOf } from '../access/caller.ts';
import { type Builds, QueueFull, type Submitted } from '../builds/builds.ts';
import type { BuildRecord } from '../builds/record.ts';
import type { Spec } from '../builds/spec.ts';
import { toBuildError } from './build-error.ts';
import type { CallerRate } from './caller-rate.ts';
import { sourceError } from './source-error.ts';

/** Every function throws ApiError or RegistryError, in words for people. */
export interface RatedBuilds {
  submit(c: Context, spec: Spec): Promise<Submitted>;
  /** What `submit` would answer. Nothing is started, kept or counted. */
  preview(c: Context, spec: Spec): Promise<Submitted>;
  /** As Builds has it. */
  retry(c: Context, build: BuildRecord): Promise<BuildRecord>;
}

export function createRatedBuilds(builds: Builds, rate: CallerRate): RatedBuilds {
  function preview(c: Context, spec: Spec): Promise<Submitted> {
    return worded(builds.preview(spec, { caller: callerOf(c) }), spec);
  }

  async function count(c: Context, spec: Spec): Promise<void> {
    // A copy of all platforms counts as one.
    if (await worded(isNew(builds, c, spec), spec)) await rate.count(c, spec.platforms?.length ?? 1);
  }

  return {
    preview,
    async submit(c, spec) {
      await count(c, spec);
      return worded(builds.submit(spec, { caller: callerOf(c) }), spec);
    },
    async retry(c, build) {
      await count(c, build.spec);
      return (await worded(builds.retry(build.id, { caller: callerOf(c) }), build.spec)) ?? build;
    },
  };
}

/** A build that a pull begins. `plan` is not free: its platforms count before it, and are given back where nothing new comes of it. */
export type StartPulled = (plan: () => Promise<Spec>, platforms: number) => Promise<Submitted>;

/** Somebody waits for these with a client that gives up. */
const PULL_PRIORITY = 1;

/**
 * To be called within the request that pulls, where that is known by `contextStorage`; what nobody's request asks for is not limited. Builds
 * of callers who are known, or on this machine, go before those that no pull waits for. Throws TOOMANYREQUESTS and what `plan` and Builds throw.
 */
export function createStartPulled(builds: Builds, rate: CallerRate): StartPulled {
  return async (plan, platforms) => {
    const c = tryGetContext();
    if (!c) return builds.submit(await plan(), { caller: NOBODY, priority: PULL_PRIORITY });
    await rate.count(c, platforms);
    const spec = await plan();
    const isCounted = await isNew(builds, c, spec);
    const submitted = await builds.submit(spec, { caller: callerOf(c), priority: isStranger(c) ? 0 : PULL_PRIORITY });
    if (!isCounted) await rate.giveBack(c, platforms);
    return submitted;
  };
}

/** No user has a colon in its name. */
const NOBODY = ':recipes';

async function isNew(builds: Builds, c: Context, spec: Spec): Promise<boolean> {
  const { build, isCached } = await builds.preview(spec, { caller: callerOf(c) });
  return !isCached && (await builds.find(build.id)) === undefined;
}

function isStranger(c: Context): boolean {
  return callerOf(c) === '' && c.get('rights')?.caller.kind !== 'local';
}

/** Whether an image is there is asked of its registry, too. */
async function worded<T>(asked: Promise<T>, { target }: Spec): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    throw error instanceof QueueFull ? toBuildError(error) : sourceError(error, target.repository);
  }
}

/** Who asks for a build, for fairness and the record; empty: anonymous. */
function callerOf(c: Context): string {
  const caller = c.get('rights')?.caller;
  return caller ? subjectOf(caller) : '';
}
