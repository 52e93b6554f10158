// `veneer gc`: collects where no service runs, and has the service collect where one does.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import type { GarbageCollector, GcOptions } from '../hosted/gc/collector.ts';
import { GcRefused } from '../hosted/gc/orphans.ts';
import type { GcProgress, GcReport } from '../hosted/gc/report.ts';
import { type DirectoryLock, DirectoryLocked, lockDirectory } from '../state/data-directory.ts';
import { askService } from './gc-service.ts';
import { formatReport } from './gc-table.ts';
import { type Service, ServiceRefused } from './service/service.ts';

interface GcCommandDeps {
  /** Asked when the command runs. */
  readonly findPlace: () => GcPlace;
  /** Whether standard error is a terminal: then it shows how far the run is. */
  readonly isTerminal: boolean;
}

export interface GcPlace {
  readonly dataDir: string;
  /** Opens what is in the data directory. Called by its owner. */
  readonly openCollector: () => Promise<GarbageCollector & { close(): Promise<void> }>;
  /** Where a service that owns the data directory can be asked; absent where the configuration does not tell. */
  readonly service: Service | undefined;
}

interface GcFlags {
  readonly dryRun?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

/** The report goes to standard output, all else to standard error. */
export function createGcCommand({ findPlace, isTerminal }: GcCommandDeps): Command {
  return new Command('gc')
    .description('removes from the hosted repositories what nothing refers to, and what retention lets go of')
    .option('--dry-run', 'says what would be removed, and changes nothing')
    .option('--force', 'also where files of no repository are most of what is there, or the clock has jumped ahead')
    .option('--json', 'prints the report as JSON')
    .action(async ({ dryRun, force, json }: GcFlags, self: Command) => {
      const { writeOut, writeErr } = self.configureOutput();
      const progress = createProgressLine(isTerminal ? writeErr : undefined);
      const report = await collect(findPlace(), { dryRun, force, onProgress: progress.show }).catch(error => {
        progress.clear();
        if (error instanceof ServiceRefused || error instanceof GcRefused) self.error(`error: ${error.message}`);
        throw error;
      });
      progress.clear();
      const lines = json ? [JSON.stringify(report, undefined, 2)] : formatReport(report);
      for (const line of lines) writeOut?.(`${line}\n`);
    });
}

async function collect({ dataDir, openCollector, service }: GcPlace, options: GcOptions): Promise<GcReport> {
  const directory = resolve(dataDir);
  // Nothing is made here: a directory without records is the wrong one.
  if (!existsSync(join(directory, 'records.db'))) {
    throw new ServiceRefused(`there is no registry in ${directory}: name the data directory of the service`);
  }
  const owner = findOwnership(directory);
  if (owner) return collectInPlace(owner, openCollector, options);
  if (service) return askService(service, options);
  throw new ServiceRefused(`a service uses ${directory}, and the configuration does not tell where it listens`);
}

function findOwnership(directory: string): DirectoryLock | undefined {
  try {
    return lockDirectory(directory);
  } catch (error) {
    if (error instanceof DirectoryLocked) return undefined;
    throw error;
  }
}

async function collectInPlace(
  owner: DirectoryLock,
  openCollector: GcPlace['openCollector'],
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

/** One line that is written over and over. */
function createProgressLine(write: ((text: string) => void) | undefined) {
  return {
    show({ repositories, visited }: GcProgress) {
      write?.(`\rcollecting: ${repositories} repositories done, ${visited} tags, manifests, blobs and files seen`);
    },
    // From the beginning of the line to its end.
    clear: () => write?.('\r\u001b[K'),
  };
}
