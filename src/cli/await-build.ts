// Waits for a build, and shows how far it is.
import type { ProgressView } from './progress/view.ts';
import type { Build, BuildsClient } from './service/builds.ts';
import { followBuild, type Patience } from './service/follow.ts';
import { ServiceRefused } from './service/service.ts';

interface AwaitOptions {
  /** Closed in the end. */
  readonly view: ProgressView;
  /** Aborts when somebody interrupts the command. */
  readonly interrupted: AbortSignal;
  readonly patience?: Patience | undefined;
}

/** Nobody waits any more; the build goes on. The message is for people. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

/** The build when it has ended. Throws Interrupted, or ServiceRefused. */
export async function awaitBuild(
  builds: BuildsClient,
  id: string,
  { view, interrupted, patience }: AwaitOptions,
): Promise<Build> {
  let build: Build | undefined;
  try {
    build = await followBuild(builds, id, { onEntry: view.show, signal: interrupted, patience });
    return build;
  } catch (cause) {
    if (interrupted.aborted) {
      throw new Interrupted(
        `${id} goes on: see it with \`veneer builds log ${id}\`, end it with \`veneer builds cancel ${id}\``,
      );
    }
    if (!(cause instanceof ServiceRefused && cause.isPassing)) throw cause;
    throw new ServiceRefused(`${cause.message}; ${id} may go on: see it with \`veneer builds log ${id}\``, { cause });
  } finally {
    view.close({ isFailed: build?.status === 'failed' });
  }
}

/** A build that failed, in one line. */
export function describeFailure({ buildId, reason }: Build, builds: BuildsClient): string {
  return `${buildId} failed: ${reason ?? 'it tells no reason'}; its log: ${builds.logUrl(buildId)}`;
}
