// What all commands that speak to a running service have in common.
import type { Readable } from 'node:stream';
import type { Command } from 'commander';
import { plainText } from './output.ts';
import { NothingToSend } from './sender.ts';
import { type BuildsClient, createBuildsClient, type Patience } from './service/builds.ts';
import { type Service, ServiceRefused } from './service/service.ts';

export interface ServiceCommandDeps {
  /** Asked when a command runs, with what --server says. Throws ServiceRefused, or for a configuration that cannot be read. */
  readonly findService: (server: string | undefined) => Service;
  readonly stdin: Readable;
  /** Standard error, where it is a terminal. */
  readonly terminal: NodeJS.WritableStream | undefined;
  /** Called when a command begins to wait; the signal aborts when somebody interrupts it. */
  readonly listenForInterrupt: () => AbortSignal;
  /** How what breaks is tried again. */
  readonly patience?: Patience;
}

interface ServiceCall {
  readonly service: Service;
  readonly builds: BuildsClient;
}

interface ServerOption {
  readonly server?: string;
}

/** Nobody waits any more; the build goes on. The message is for people. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}

export function addServerOption(command: Command): Command {
  const meaning =
    'the service (VENEER_URL; default: where the configuration has it listen); VENEER_TOKEN is shown to it';
  return command.option('--server <url>', meaning);
}

/** Runs a command's work. Whatever the service or the caller's files stand in the way of is told in one line. */
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

/** As shells count a command that SIGINT ended. */
const EXIT_INTERRUPTED = 130;
const HINT = ': start it with `veneer`, or name another with --server or VENEER_URL';
