// `veneer cache`: administers the cache of upstream content, with or without a running service.
import { resolve } from 'node:path';
import { Command } from 'commander';
import type { CacheAdmin } from '../cache/admin/cache-admin.ts';
import { type CacheLine, cacheLineSchema, type StatLine, type Tally } from '../cache/admin/lines.ts';
import { duration, size } from '../config/values.ts';
import { RegistryError } from '../oci/errors.ts';
import { formatSize } from '../oci/wording.ts';
import { type DirectoryLock, isDataDirectory, tryLockDirectory } from '../state/data-directory.ts';
import { formatColumns, plainText, print } from './output.ts';
import {
  type Hints,
  linesOf,
  parseJson,
  refusalOf,
  type Service,
  ServiceRefused,
  sendRequest,
} from './service/service.ts';
import type { ServiceCommandDeps } from './service-command.ts';
import { createWarmCommand } from './warm.ts';

interface PruneOptions {
  readonly olderThan?: string;
  readonly to?: string;
  readonly match?: readonly string[];
  readonly dryRun?: boolean;
  readonly force?: boolean;
}

/** Results go to standard output, everything else to standard error. */
export function createCacheCommand(
  deps: ServiceCommandDeps & {
    /** Called when a command runs. */
    readonly findTarget: () => CacheTarget;
  },
): Command {
  const run = (self: Command, question: () => CacheCommand) => answer(self, deps, question);
  const command = new Command('cache').description('administers the cache of upstream content');
  addCommand(command, 'ls [repository]', 'lists the repositories, or the content of one').action(
    (repository: string | undefined, _, self: Command) => run(self, () => listing(repository)),
  );
  addCommand(command, 'stat', 'shows the size of the cache, and its limits').action((_, self: Command) =>
    run(self, () => ({ ask: admin => admin.stat(), method: 'GET', path: 'stat' })),
  );
  addCommand(command, 'prune', 'removes the selected content, least recently used first, except pinned content')
    .option('--older-than <duration>', 'content unused for this long, such as 30d')
    .option('--to <size>', 'only until this much is left, such as 10GiB')
    .option('--match <patterns...>', 'only content that no other repositories link, such as "docker.io/library/**"')
    .option('--dry-run', 'reports what would be removed, and changes nothing')
    .option('--force', 'prunes by age even while the clock is not trusted')
    .action((options: PruneOptions, self: Command) => run(self, () => pruning(options)));
  addCommand(command, 'verify', 'hashes all stored content, cached or not, and sets aside what is damaged')
    .option('--rate <size>', 'how much to read per second, such as 50MiB; default: unlimited')
    .action(({ rate }: { readonly rate?: string }, self: Command) => run(self, () => verifying(rate)));
  return command.addCommand(createWarmCommand(deps));
}

function addCommand(command: Command, usage: string, description: string): Command {
  return command.command(usage).description(description).option('--json', 'prints lines of JSON as they arrive');
}

function listing(repository: string | undefined): CacheCommand {
  const query = repository === undefined ? '' : `?${new URLSearchParams({ repository })}`;
  return { ask: admin => admin.list(repository), method: 'GET', path: `content${query}` };
}

function pruning({ olderThan, to, match: repositories, dryRun, force }: PruneOptions): CacheCommand {
  const unusedMs = olderThan === undefined ? undefined : parseValue(duration(), olderThan, '--older-than');
  const toBytes = to === undefined ? undefined : parseValue(size(), to, '--to');
  if (unusedMs === undefined && toBytes === undefined && !repositories) {
    throw new ServiceRefused('select what to remove with --older-than, --to or --match');
  }
  const options = { unusedMs, toBytes, repositories, dryRun, force };
  const query = new URLSearchParams(
    Object.entries({ unusedMs, toBytes, dryRun, force }).flatMap(([key, value]) =>
      value === undefined ? [] : [[key, String(value)]],
    ),
  );
  for (const pattern of repositories ?? []) query.append('repositories', pattern);
  return { ask: admin => admin.prune(options), method: 'POST', path: `prune?${query}` };
}

function verifying(rate: string | undefined): CacheCommand {
  const bytesPerSecond = rate === undefined ? undefined : parseValue(size(), rate, '--rate');
  const query = bytesPerSecond === undefined ? '' : `?bytesPerSecond=${bytesPerSecond}`;
  return { ask: admin => admin.verify({ bytesPerSecond }), method: 'POST', path: `verify${query}` };
}

function parseValue(schema: ReturnType<typeof size>, text: string, option: string): number {
  const { data, error } = schema.safeParse(text);
  if (data !== undefined) return data;
  throw new ServiceRefused(`${option}: ${error?.issues[0]?.message}`);
}

async function answer(
  self: Command,
  deps: ServiceCommandDeps & {
    /** Called when a command runs. */
    readonly findTarget: () => CacheTarget;
  },
  question: () => CacheCommand,
): Promise<void> {
  const { json } = self.opts<{ readonly json?: boolean }>();
  const progress = createProgressLine(deps.terminal);
  const lines: CacheLine[] = [];
  let damaged = 0;
  try {
    for await (const line of askCache(deps.findTarget(), question())) {
      if (line.kind === 'verified') damaged = line.damaged.count;
      if (json) print(self, JSON.stringify(line));
      else if (line.kind === 'progress') progress.show(line.done);
      else lines.push(line);
    }
  } catch (error) {
    progress.clear();
    if (error instanceof ServiceRefused || error instanceof RegistryError)
      self.error(`error: ${plainText(error.message)}`);
    throw error;
  }
  progress.clear();
  for (const line of formatAnswer(lines)) print(self, plainText(line));
  if (damaged > 0) self.error('error: found damaged content: check the disk');
}

/** One line that is overwritten repeatedly. */
function createProgressLine(terminal: NodeJS.WritableStream | undefined) {
  return {
    show: (done: Parameters<typeof formatTally>[0]) => void terminal?.write(`\r\u001b[K${formatTally(done)}`),
    clear: () => void terminal?.write('\r\u001b[K'),
  };
}

/** The result without its progress: a table of the listed items, and the rest. */
function formatAnswer(lines: readonly CacheLine[]): readonly string[] {
  const repositories = lines.flatMap(line => (line.kind === 'repository' ? [line] : []));
  const contents = lines.flatMap(line => (line.kind === 'content' ? [line] : []));
  return [
    ...formatTable(
      ['REPOSITORY', 'MANIFESTS', 'BLOBS', 'SIZE', 'LAST USE'],
      repositories.map(({ repository, manifests, blobs, bytes, usedAt = '' }) => [
        ...[repository, `${manifests}`, `${blobs}`, formatSize(bytes), formatTime(usedAt)],
      ]),
    ),
    ...formatTable(
      ['DIGEST', 'SIZE', 'LAST USE', 'TYPE'],
      contents.map(({ digest, size, usedAt, contentType = 'blob' }) => [
        ...[digest, formatSize(size), formatTime(usedAt), contentType],
      ]),
    ),
    ...lines.flatMap(formatOther),
  ];
}

function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  return rows.length > 0 ? formatColumns(headings, rows) : [];
}

function formatOther(line: CacheLine): readonly string[] {
  switch (line.kind) {
    case 'stat':
      return formatStat(line);
    case 'damaged':
      return [`damaged (${line.of}): ${line.digest}, ${formatSize(line.size)}: ${line.remedy}`];
    case 'verified':
      return [`verified: ${formatTally(line.seen)}`, `damaged: ${formatTally(line.damaged)}`];
    case 'pruned':
      return [
        `${line.dryRun ? 'would remove' : 'removed'}: ${formatTally(line.removed)}`,
        `${line.dryRun ? 'would remain' : 'remaining'}: ${formatTally(line.left)}`,
      ];
    default:
      return [];
  }
}

function formatStat({ bytes, count, isCounted, highBytes, lowBytes, maxAgeMs, pin, hits, misses }: StatLine) {
  const limit =
    highBytes === undefined ? 'none' : `above ${formatSize(highBytes)}, down to ${formatSize(lowBytes ?? 0)}`;
  const asked = (hits ?? 0) + (misses ?? 0);
  return [
    `cached: ${formatTally({ count, bytes })}${isCounted ? '' : ' so far; still counting'}`,
    `eviction: ${limit}`,
    `unused content is evicted after: ${maxAgeMs === undefined ? 'never' : `${Number((maxAgeMs / 3_600_000).toFixed(1))} h`}`,
    ...(pin.length > 0 ? [`pinned: ${pin.join(', ')}`] : []),
    ...(asked > 0 ? [`hits since start: ${hits} of ${asked} (${Math.round(((hits ?? 0) / asked) * 100)} %)`] : []),
  ];
}

function formatTally({ count, bytes }: Tally): string {
  return `${count} ${count === 1 ? 'file' : 'files'}, ${formatSize(bytes)}`;
}

/** To the second, in UTC. */
function formatTime(time: string): string {
  return time.replace(/\.\d+Z$/, 'Z');
}

// Cache administration from the command line: directly in the data directory if no service has it open, else through the service.

interface OpenedCacheAdmin extends CacheAdmin {
  close(): Promise<void>;
}

interface CacheTarget {
  readonly dataDir: string;
  /** Opens the data directory. Called with its lock held. */
  readonly openCacheAdmin: () => Promise<OpenedCacheAdmin>;
  /** The service that uses the data directory; absent where its address is not configured. */
  readonly service: Service | undefined;
}

/** A command, in both forms. */
interface CacheCommand {
  readonly ask: (admin: CacheAdmin) => AsyncGenerator<CacheLine>;
  readonly method: 'GET' | 'POST';
  /** Below `/v1/cache/`. */
  readonly path: string;
}

const HINT = 'set VENEER_TOKEN to a token made with --admin';
const HINTS: Hints = { 401: HINT, 403: HINT };
const ADVICE = 'try again; what was done so far is not lost';

/** The lines of the response. Throws ServiceRefused. A reader that leaves before the last line stops the operation. */
async function* askCache(target: CacheTarget, command: CacheCommand): AsyncGenerator<CacheLine> {
  const directory = resolve(target.dataDir);
  // Never created here: a directory without records is the wrong one.
  if (!isDataDirectory(directory)) {
    throw new ServiceRefused(`there is no cache in ${directory}: name the data directory of the service`);
  }
  const owner = tryLockDirectory(directory);
  if (owner) yield* askHere(owner, target, command);
  else if (target.service) yield* askService(target.service, command);
  else throw new ServiceRefused(`a service uses ${directory}, but the configuration does not say where it listens`);
}

async function* askHere(owner: DirectoryLock, { openCacheAdmin }: CacheTarget, { ask }: CacheCommand) {
  try {
    const admin = await openCacheAdmin();
    try {
      yield* ask(admin);
    } finally {
      await admin.close();
    }
  } finally {
    owner.release();
  }
}

async function* askService(service: Service, { method, path }: CacheCommand): AsyncGenerator<CacheLine> {
  const response = await sendRequest(service, `/v1/cache/${path}`, { method });
  if (!response.ok) throw await refusalOf(response, HINTS);
  for await (const text of linesOf(response, ADVICE)) {
    const { data: line } = cacheLineSchema.safeParse(parseJson(text));
    if (!line) throw new ServiceRefused(`${service.url.host} is not a Veneer service of this version`);
    if (line.kind === 'error') throw new ServiceRefused(line.message);
    yield line;
  }
}
