// All commands of `veneer`, with what they need of this process.
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { findCacheTarget } from './app/caching.ts';
import { findGcTarget, findRepairTarget } from './app/hosting.ts';
import { findStartFaults, probeBuilders, probeUpstreams } from './app/probing.ts';
import { findMigrationTarget, findTokenRecords } from './app/recording.ts';
import { createRootCommand, type RootFlags as Flags } from './cli/root.ts';
import { findServiceUrl, type Service } from './cli/service/service.ts';
import { describeMirror, findOwnUrl } from './config/own-address.ts';
import type { Config } from './config/schema.ts';

interface CommandsDeps {
  readonly version: string;
  /** Runs the service until it ends. */
  readonly serve: (flags: Flags) => Promise<void>;
  /** Throws ConfigError. */
  readonly readConfig: (flags: Flags) => Config;
  /** What the user of this process has set. */
  readonly findOwner: () => {
    readonly environment: Readonly<Record<string, string | undefined>>;
    readonly dockerConfigPath: string;
  };
}

/** Nothing is read before a command runs. */
export function createCommands({ version, serve, readConfig, findOwner }: CommandsDeps): Command {
  const command = createRootCommand({
    version,
    serve,
    findService,
    stdin: process.stdin,
    terminal: process.stderr.isTTY ? process.stderr : undefined,
    isTerminal: process.stderr.isTTY,
    listenForInterrupt,
    findDataDir,
    findRecords: () => findTokenRecords(findState()),
    findTarget: () => findTargetBy(findCacheTarget),
    findGcTarget: () => findTargetBy(findGcTarget),
    findMigrationTarget: () => findTargetBy(findMigrationTarget),
    findRepairTarget: () => findTargetBy(findRepairTarget),
    findConfigSources: () => ({ env: process.env, flags: command.opts<Flags>() }),
    findStartFaults,
    probeUpstreams: config => probeUpstreams(config, findOwner()),
    probeBuilders: config => probeBuilders(config, findOwner().environment),
    findMirror: () => describeMirror(readConfig(command.opts<Flags>())),
  });
  return command;

  function findTargetBy<T>(find: (config: Config, log: Logger, token: string | undefined) => T): T {
    const config = readConfig(command.opts<Flags>());
    return find(config, pino({ level: config.log.level }, pino.destination(2)), process.env.VENEER_TOKEN || undefined);
  }

  function findService(server: string | undefined): Service {
    const findOwn = () => findOwnUrl(readConfig(command.opts<Flags>()));
    return { url: findServiceUrl({ server, env: process.env, findOwn }), token: process.env.VENEER_TOKEN || undefined };
  }

  /** If it is given, the configuration need not be readable, such as its secrets. */
  function findDataDir(): string {
    const flags = command.opts<Flags>();
    return flags.dataDir ?? readConfig(flags).dataDir;
  }

  /** The same, with the database that the configuration names. */
  function findState(): Pick<Config, 'dataDir' | 'state'> {
    const flags = command.opts<Flags>();
    try {
      return readConfig(flags);
    } catch (error) {
      if (flags.dataDir === undefined) throw error;
      return { dataDir: resolve(flags.dataDir), state: {} };
    }
  }
}

/** A second interrupt ends the process. */
function listenForInterrupt(): AbortSignal {
  const interrupted = new AbortController();
  process.once('SIGINT', () => interrupted.abort());
  return interrupted.signal;
}
