// `veneer gc`: collects garbage directly if no service is running, else through the service.
import { resolve } from 'node:path';
import { Command } from 'commander';
import type { GarbageCollector, GcOptions } from '../hosted/gc/collector.ts';
import { GcRefused } from '../hosted/gc/orphans.ts';
import {
  type GcLine,
  type GcProgress,
  type GcReport,
  gcLineSchema,
  isNothing,
  type Tally,
} from '../hosted/gc/report.ts';
import { formatSize } from '../oci/wording.ts';
import { type DirectoryLock, isDataDirectory, tryLockDirectory } from '../state/data-directory.ts';
import {
  type Hints,
  linesOf,
  parseJson,
  refusalOf,
  type Service,
  ServiceRefused,
  sendRequest,
} from './service/service.ts';

export interface GcTarget {
  readonly dataDir: string;
  /** Opens the data directory. Called with its lock held. */
  readonly openCollector: () => Promise<GarbageCollector & { close(): Promise<void> }>;
  /** The service that uses the data directory; absent where its address is not configured. */
  readonly service: Service | undefined;
}

interface GcFlags {
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** The report goes to standard output, everything else to standard error. */
export function createGcCommand({
  findTarget,
  isTerminal,
}: {
  /** Called when the command runs. */
  readonly findTarget: () => GcTarget;
  /** Whether standard error is a terminal, to show progress. */
  readonly isTerminal: boolean;
}): Command {
  return new Command('gc')
    .description('removes unreferenced content and expired tags from the hosted repositories')
    .option('--dry-run', 'reports what would be removed, and changes nothing')
    .option('--force', 'collects even if most files belong to no repository, or the clock has jumped ahead')
    .option('--json', 'prints the report as JSON')
    .action(async ({ dryRun, force, json }: GcFlags, self: Command) => {
      const { writeOut, writeErr } = self.configureOutput();
      const progress = createProgressLine(isTerminal ? writeErr : undefined);
      const report = await collect(findTarget(), { dryRun, force, onProgress: progress.show }).catch(error => {
        progress.clear();
        if (error instanceof ServiceRefused || error instanceof GcRefused) self.error(`error: ${error.message}`);
        throw error;
      });
      progress.clear();
      const lines = json ? [JSON.stringify(report, undefined, 2)] : formatReport(report);
      for (const line of lines) writeOut?.(`${line}\n`);
    });
}

async function collect({ dataDir, openCollector, service }: GcTarget, options: GcOptions): Promise<GcReport> {
  const directory = resolve(dataDir);
  // Never created here: a directory without records is the wrong one.
  if (!isDataDirectory(directory)) {
    throw new ServiceRefused(`there is no registry in ${directory}: name the data directory of the service`);
  }
  const owner = tryLockDirectory(directory);
  if (owner) return collectInPlace(owner, openCollector, options);
  if (service) return askService(service, options);
  throw new ServiceRefused(`a service uses ${directory}, but the configuration does not say where it listens`);
}

async function collectInPlace(
  owner: DirectoryLock,
  openCollector: GcTarget['openCollector'],
  options: GcOptions,
): Promise<GcReport> {
  try {
    const collector = await openCollector();
    try {
      return await collector.collect(options);
    } finally {
      await collector.close();
    }
  } finally {
    owner.release();
  }
}

/** One line that is overwritten repeatedly. */
function createProgressLine(write: ((text: string) => void) | undefined) {
  return {
    show({ repositories, visited }: GcProgress) {
      write?.(`\rcollecting: ${repositories} repositories done, ${visited} tags, manifests, blobs and files seen`);
    },
    // Returns to the start of the line, and clears it.
    clear: () => write?.('\r\u001b[K'),
  };
}

const HEADINGS = ['REPOSITORY', 'TAGS', 'MANIFESTS', 'BLOBS', 'SIZE'] as const;

/** A table of the changed repositories, if any, and the totals. */
function formatReport(report: GcReport): readonly string[] {
  const { dryRun, repositories, removed, kept, orphans, missing, freedBytes } = report;
  const rows = repositories.map(({ repository, removed: gone }) => [repository, ...cellsOf(gone)]);
  const found = orphans.blobs > 0 ? [`left by a crash: ${formatContent(orphans)}`] : [];
  return [
    ...(rows.length > 0 ? formatColumns([HEADINGS, ...rows]) : []),
    `${dryRun ? 'would remove' : 'removed'}: ${isNothing(removed) ? 'nothing' : formatTally(removed)}`,
    ...found,
    `${dryRun ? 'would free' : 'freed'}: ${formatSize(freedBytes)} on disk`,
    `remaining: ${formatTally(kept)}`,
    ...formatMissing(missing),
  ];
}

function formatMissing({ blobs, bytes, content }: GcReport['missing']): readonly string[] {
  if (blobs === 0) return [];
  const more = blobs - content.length;
  return [
    `missing: ${formatContent({ blobs, bytes })}, damaged on the disk or lost. Pulls of it are a 404 until it is pushed again:`,
    ...content.map(({ digest, size, repositories }) => `  ${digest}, ${formatSize(size)}: ${repositories.join(', ')}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

function cellsOf({ tags, manifests, blobs, bytes }: Tally): readonly string[] {
  return [tags, manifests, blobs].map(String).concat(formatSize(bytes));
}

function formatTally({ tags, manifests, blobs, bytes }: Tally): string {
  const content = `${count(manifests, 'manifest')}, ${count(blobs, 'blob')}; ${formatSize(bytes)}`;
  return `${count(tags, 'tag')}, ${content}`;
}

function formatContent({ blobs, bytes }: GcReport['orphans']): string {
  return `${count(blobs, 'file')}; ${formatSize(bytes)}`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/** The first column to the left, the others to the right. */
function formatColumns(table: readonly (readonly string[])[]): readonly string[] {
  const widths = HEADINGS.map((_, column) => Math.max(...table.map(row => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  return table.map(row => row.map(pad).join('  '));
}

const HINT = 'set VENEER_TOKEN to a token made with --admin';
const ADVICE = 'try again; what was removed so far stays removed';
const HINTS: Hints = { 401: HINT, 403: HINT };

/** Throws ServiceRefused. */
async function askService(
  service: Service,
  { dryRun = false, force = false, onProgress }: GcOptions,
): Promise<GcReport> {
  const response = await post(service, `dryRun=${dryRun}&force=${force}`);
  if (!response.ok) throw await refusalOf(response, HINTS);
  const { host } = service.url;
  for await (const text of linesOf(response, ADVICE)) {
    const line = parseLine(text, host);
    if (line.kind === 'report') return line.report;
    if (line.kind === 'error') throw new ServiceRefused(line.message);
    onProgress?.(line.progress);
  }
  throw new ServiceRefused(`${host} closed the connection: ${ADVICE}`);
}

async function post(service: Service, query: string): Promise<Response> {
  try {
    return await sendRequest(service, `/v1/hosted/collect?${query}`, { method: 'POST' });
  } catch (cause) {
    if (!(cause instanceof ServiceRefused && cause.isUnreachable)) throw cause;
    throw new ServiceRefused(`another process uses the data directory, but ${cause.message}`, { cause });
  }
}

function parseLine(text: string, host: string): GcLine {
  const { data } = gcLineSchema.safeParse(parseJson(text));
  if (data) return data;
  throw new ServiceRefused(`${host} is not a Veneer service of this version`);
}
