// Shared code of all commands that talk to a running service.
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import { plainText } from './output.ts';
import { NothingToSend } from './sender.ts';
import { type BuildsClient, createBuildsClient, type Patience } from './service/builds.ts';
import { type Service, ServiceRefused } from './service/service.ts';

export interface ServiceCommandDeps {
  /** Called when a command runs, with the value of --server. Throws ServiceRefused, or the error of an unreadable configuration. */
  readonly findService: (server: string | undefined) => Service;
  readonly stdin: Readable;
  /** Standard error, where it is a terminal. */
  readonly terminal: NodeJS.WritableStream | undefined;
  /** Called when a command starts to wait; the signal aborts on an interrupt. */
  readonly listenForInterrupt: () => AbortSignal;
  /** How broken connections are retried. */
  readonly patience?: Patience;
}

interface ServiceCall {
  readonly service: Service;
  readonly builds: BuildsClient;
}

interface ServerOption {
  readonly server?: string;
}

/** The command was interrupted; the build continues. The message says how to follow it. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

export function addServerOption(command: Command): Command {
  const meaning = 'the service (VENEER_URL; default: the configured listen address); VENEER_TOKEN is sent to it';
  return command.option('--server <url>', meaning);
}

/** Runs a command. Errors of the service or the caller's files are printed in one line. */
export async function callService(
  self: Command,
  { findService }: ServiceCommandDeps,
  work: (call: ServiceCall) => Promise<void>,
): Promise<void> {
  try {
    const service = findService(self.opts<ServerOption>().server);
    await work({ service, builds: createBuildsClient(service) });
  } catch (error) {
    if (error instanceof Interrupted) self.error(error.message, { exitCode: EXIT_INTERRUPTED });
    if (error instanceof NothingToSend) self.error(`error: ${error.message}`);
    if (error instanceof ServiceRefused)
      self.error(`error: ${plainText(error.message)}${error.isUnreachable ? HINT : ''}`);
    throw error;
  }
}

/** The exit code of a command ended by SIGINT, as in shells. */
const EXIT_INTERRUPTED = 130;
const HINT = ': start it with `veneer`, or name another with --server or VENEER_URL';
