// Builds that callers begin: what is new counts against the caller's rate, what is under way or built already does not.
import type { Context } from 'hono';
import { subjectOf } from '../access/caller.ts';
import { type Builds, QueueFull, type Submitted } from '../build/builds.ts';
import type { BuildRecord } from '../build/record.ts';
import type { Spec } from '../build/spec.ts';
import { toBuildError } from './build-error.ts';
import type { CountFor } from './caller-rate.ts';
import { sourceError } from './source-error.ts';

/** Every function throws ApiError or RegistryError, in words for people. */
export interface RatedBuilds {
  submit(c: Context, spec: Spec): Promise<Submitted>;
  /** What `submit` would answer. Nothing is started, kept or counted. */
  preview(c: Context, spec: Spec): Promise<Submitted>;
  /** As Builds has it. */
  retry(c: Context, build: BuildRecord): Promise<BuildRecord>;
}

export function createRatedBuilds(builds: Builds, countBuild: CountFor): RatedBuilds {
  function preview(c: Context, spec: Spec): Promise<Submitted> {
    return worded(builds.preview(spec, { caller: callerOf(c) }), spec);
  }

  async function count(c: Context, spec: Spec): Promise<void> {
    // A copy is no build.
    if (spec.kind !== 'containerfile') return;
    const { build, isCached } = await preview(c, spec);
    const isNew = !isCached && (await builds.find(build.id)) === undefined;
    if (isNew) await countBuild(c, spec.platforms.length);
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
