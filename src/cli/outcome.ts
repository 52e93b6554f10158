// The outcome of a request for an image: waits for its build, if any, and prints the reference to pull.
import type { Command } from 'commander';
import { explain, plainText, print } from './output.ts';
import { createBarView, createLineView, type ProgressView } from './progress.ts';
import { type Build, type BuildsClient, followBuild, type Patience, type Submitted } from './service/builds.ts';
import { ServiceRefused } from './service/service.ts';
import { Interrupted, type ServiceCommandDeps } from './service-command.ts';

interface OutcomeOptions {
  readonly await: boolean;
  readonly json?: boolean;
  readonly dryRun?: boolean;
}

export function addOutcomeOptions(command: Command): Command {
  return command
    .option('--await', 'waits until the image is built', true)
    .option('--no-await', 'prints the reference at once; pulling it waits for the build')
    .option('--json', 'prints the answer as JSON, with the build that was waited for');
}

/** Only the reference goes to standard output. Throws what `awaitBuild` throws; a failed build ends the command. */
export async function printOutcome(
  self: Command,
  builds: BuildsClient,
  deps: ServiceCommandDeps,
  submitted: Submitted,
): Promise<void> {
  const { json, dryRun } = self.opts<OutcomeOptions>();
  const build = await settle(self, builds, deps, submitted);
  const succeeded = build ? build.status === 'succeeded' : submitted.succeeded;
  const targetDigest = submitted.targetDigest ?? build?.digest;
  if (json) print(self, JSON.stringify({ ...submitted, succeeded, targetDigest, build }, undefined, 2));
  if (build?.status === 'failed') self.error(`error: ${plainText(describeFailure(build, builds))}`);
  if (json) return;
  for (const warning of submitted.warnings ?? []) explain(self, `warning: ${plainText(warning)}`);
  for (const line of (submitted.moved ?? []).map(printMoved)) explain(self, line);
  if (dryRun) explain(self, 'a dry run: nothing was started');
  else if (submitted.buildId !== undefined && !succeeded) explain(self, underWay(submitted.buildId));
  if (targetDigest !== undefined) explain(self, `digest ${plainText(targetDigest)}`);
  print(self, plainText(submitted.targetImage));
}

/** Entries that were moved to follow the links of an image. */
function printMoved({ platform, entries, count }: NonNullable<Submitted['moved']>[number]): string {
  const shown = entries.map(({ from, to }) => `${from} → ${to}`);
  const more = count > entries.length ? [`${count - entries.length} more`] : [];
  return plainText(`${platform}, by its links: ${[...shown, ...more].join(', ')}`);
}

/** The finished build; undefined where there is none, or without waiting. */
async function settle(
  self: Command,
  builds: BuildsClient,
  { terminal, listenForInterrupt, patience }: ServiceCommandDeps,
  { buildId, succeeded }: Submitted,
): Promise<Build | undefined> {
  const { await: isAwaited, dryRun } = self.opts<OutcomeOptions>();
  if (buildId === undefined || dryRun || succeeded) return undefined;
  if (!isAwaited) return succeeded === false ? builds.get(buildId) : undefined;
  const view = terminal ? await createBarView(terminal) : createLineView(line => explain(self, line));
  return awaitBuild(builds, buildId, { view, interrupted: listenForInterrupt(), patience });
}

function underWay(id: string): string {
  return plainText(`${id} is in progress: follow it with \`veneer builds log ${id}\``);
}

/** The finished build. Throws Interrupted, or ServiceRefused. */
export async function awaitBuild(
  builds: BuildsClient,
  id: string,
  {
    view,
    interrupted,
    patience,
  }: {
    /** Closed at the end. */
    readonly view: ProgressView;
    /** Aborts when the user interrupts the command. */
    readonly interrupted: AbortSignal;
    readonly patience?: Patience | undefined;
  },
): Promise<Build> {
  let build: Build | undefined;
  try {
    build = await followBuild(builds, id, { onEntry: view.show, signal: interrupted, patience });
    return build;
  } catch (cause) {
    if (interrupted.aborted) {
      throw new Interrupted(
        `${id} is still running: follow it with \`veneer builds log ${id}\`, cancel it with \`veneer builds cancel ${id}\``,
      );
    }
    if (!(cause instanceof ServiceRefused && cause.isTransient)) throw cause;
    throw new ServiceRefused(
      `${cause.message}; ${id} may still be running: follow it with \`veneer builds log ${id}\``,
      { cause },
    );
  } finally {
    view.close({ isFailed: build?.status === 'failed' });
  }
}

/** Describes a failed build in one line. */
export function describeFailure({ buildId, reason }: Build, builds: BuildsClient): string {
  return `${buildId} failed: ${reason ?? 'no reason given'}; its log: ${builds.logUrl(buildId)}`;
}
