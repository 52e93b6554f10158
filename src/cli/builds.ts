// `veneer builds`: lists the builds of a running service, shows their logs, cancels and retries them.
import { Command, InvalidArgumentError, Option } from 'commander';
import { formatLogEntry, type LogEntry } from '../builds/progress.ts';
import { buildIdSchema } from '../builds/record.ts';
import { awaitBuild, describeFailure } from './outcome.ts';
import { explain, formatColumns, plainText, print, printJson } from './output.ts';
import { type Build, type BuildsClient, type BuildsPage, buildStatuses } from './service/builds.ts';
import { linesOf } from './service/service.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

const MAX_LIMIT = 100;

export function createBuildsCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('builds').description('the builds of a running service');
  addList(command, deps);
  addLog(command, deps);
  addCancel(command, deps);
  addRetry(command, deps);
  return command;
}

function addList(command: Command, deps: ServiceCommandDeps): void {
  const list = command
    .command('ls')
    .alias('list')
    .description('lists builds, newest first')
    .option('--limit <number>', 'the maximum number', parseLimit, 20)
    .addOption(new Option('--status <status>', 'only builds with this status').choices(buildStatuses))
    .option('--after <id>', 'only builds older than this one', parseId)
    .option('--json', 'prints the records of the service');
  addServerOption(list).action(async ({ json, ...page }: BuildsPage & { readonly json?: boolean }, self: Command) =>
    callService(self, deps, async ({ builds }) => {
      const found = await builds.list(page);
      const lines = json ? [JSON.stringify(found, undefined, 2)] : formatBuilds(found);
      for (const line of lines) print(self, line);
    }),
  );
}

function addLog(command: Command, deps: ServiceCommandDeps): void {
  const log = command
    .command('log')
    .description('follows the log of a build until it ends; fails if the build fails')
    .argument('<id>', ID, parseId)
    .option('--no-follow', 'only the log so far')
    .option('--json', 'prints a line of JSON for each entry; not with --no-follow');
  addServerOption(log).action(
    async (id: string, { follow, json }: JsonFlag & { readonly follow: boolean }, self: Command) =>
      callService(self, deps, async ({ builds }) => {
        if (!follow && json) self.error('error: --json cannot be combined with --no-follow');
        if (!follow) return printLog(self, builds, id);
        const format = json ? (entry: LogEntry) => JSON.stringify(entry) : formatLogEntry;
        const view = { show: (entry: LogEntry) => print(self, format(entry)), close() {} };
        const build = await awaitBuild(builds, id, {
          view,
          interrupted: deps.listenForInterrupt(),
          patience: deps.patience,
        });
        if (build.status === 'failed') self.error(`error: ${plainText(describeFailure(build, builds))}`);
      }),
  );
}

async function printLog(self: Command, builds: BuildsClient, id: string): Promise<void> {
  for await (const line of linesOf(await builds.openLog(id), 'try again')) print(self, plainText(line));
}

function addCancel(command: Command, deps: ServiceCommandDeps): void {
  const cancel = command.command('cancel').description('cancels a build').argument('<id>', ID, parseId);
  cancel.option('--json', RECORD);
  addServerOption(cancel).action(async (id: string, { json }: JsonFlag, self: Command) =>
    callService(self, deps, async ({ builds }) => {
      const build = await builds.cancel(id);
      if (json) return printJson(self, build);
      const { status, reason } = build;
      explain(self, plainText(`${id}: ${status}${reason === undefined ? '' : `, ${reason}`}`));
    }),
  );
}

function addRetry(command: Command, deps: ServiceCommandDeps): void {
  const retry = command
    .command('retry')
    .description('starts the build again, and prints the id of the new build')
    .argument('<id>', ID, parseId)
    .option('--json', RECORD);
  addServerOption(retry).action(async (id: string, { json }: JsonFlag, self: Command) =>
    callService(self, deps, async ({ builds }) => {
      const build = await builds.retry(id);
      if (json) return printJson(self, build);
      const { buildId, status } = build;
      explain(self, plainText(`${buildId}: ${status}`));
      print(self, plainText(buildId));
    }),
  );
}

interface JsonFlag {
  readonly json?: boolean;
}

const RECORD = 'prints the record of the service';
const ID = 'the id, such as bd-0123456789abcdef_1';

function parseId(text: string): string {
  if (buildIdSchema.safeParse(text).success) return text;
  throw new InvalidArgumentError('expected the id of a build, such as bd-0123456789abcdef_1');
}

function parseLimit(text: string): number {
  const limit = Number(text);
  if (/^\d+$/.test(text) && limit >= 1 && limit <= MAX_LIMIT) return limit;
  throw new InvalidArgumentError(`expected a number from 1 to ${MAX_LIMIT}`);
}

/** A failure may quote lines of a step: the full reason is in the log and in `--json`. */
const MAX_REASON_LENGTH = 120;

/** A heading, and one line for each build, in columns; the last is empty unless the build failed. */
function formatBuilds(builds: readonly Build[]): readonly string[] {
  const rows = builds.map(({ buildId, status, creationTime, duration, platforms, targetImage, reason }) => [
    buildId,
    status,
    creationTime ?? '-',
    duration === undefined ? '-' : `${Math.round(duration)} s`,
    platforms.join(',') || '-',
    targetImage ?? '-',
    status === 'failed' ? summarize(reason ?? '-') : '',
  ]);
  return formatColumns(
    ['BUILD', 'STATUS', 'CREATED', 'TOOK', 'PLATFORMS', 'IMAGE', 'REASON'],
    rows.map(row => row.map(plainText)),
  );
}

function summarize(reason: string): string {
  const line = plainText(reason).replaceAll(/\s+/g, ' ').trim();
  const characters = [...line];
  return characters.length > MAX_REASON_LENGTH ? `${characters.slice(0, MAX_REASON_LENGTH - 1).join('')}…` : line;
}
