// Programs that the benchmark runs: servers on free loopback ports, stopped by their own process, and commands run to their end.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { connect, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';

const BIN = process.env.VENEER_CLIENTS_BIN ?? '/opt/veneer-clients/bin';
const START_TIMEOUT_MS = 20_000;
const PORT_RETRY_MS = 10;

const execute = promisify(execFile);

export interface Server {
  /** host:port */
  readonly address: string;
  readonly pid: number;
  /** Begins to collect what it writes; the result ends that, and gives it. */
  capture(): () => string;
  stop(): Promise<void>;
}

export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** The path of a program that .ci/install-clients brings. Throws a message for people when it is not there. */
export function findProgram(name: string): string {
  const paths = [BIN, ...(process.env.PATH ?? '').split(delimiter)].map(directory => join(directory, name));
  const path = paths.find(isExecutable);
  if (path === undefined) throw new Error(`${name} is neither in ${BIN} nor in PATH: run .ci/install-clients`);
  return path;
}

export interface ServerCommand extends Command {
  /** Of one that does not say where it listens. */
  readonly port?: number;
}

/** Starts a server that logs "listening on" and its address, or accepts connections on its port. Throws with its output when it ends or is silent instead. */
export async function startServer({ file, args, env = {}, port }: ServerCommand): Promise<Server> {
  const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    const address = await readAddress(child, { file, port });
    return { address, pid: child.pid ?? 0, capture: () => capture(child), stop: () => stop(child) };
  } catch (error) {
    await stop(child);
    throw error;
  }
}

/** Of this machine's loopback, for a server that does not take one by itself. */
export async function findFreePort(): Promise<number> {
  const server = createServer();
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  server.once('error', reject).listen(0, '127.0.0.1', () => {
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    server.close(() => (port === undefined ? reject(new Error('no port is free')) : resolve(port)));
  });
  return promise;
}

/** What the command prints. Throws when it fails. */
export async function run({ file, args, env = {} }: Command): Promise<string> {
  const { stdout } = await execute(file, args, { env: { ...process.env, ...env } });
  return stdout;
}

function readAddress(
  child: ChildProcess,
  { file, port }: { readonly file: string; readonly port: number | undefined },
): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let output = '';
  const fail = (what: string) => reject(new Error(`${file} ${what}:\n${output}`));
  const timer = setTimeout(() => fail('does not say where it listens'), START_TIMEOUT_MS);
  const stopReading = read(child, text => {
    output += text;
    const address = /listening on (?:http:\/\/)?(127\.0\.0\.1:\d+)/.exec(output)?.[1];
    if (address !== undefined) resolve(address);
  });
  if (port !== undefined) waitForPort(port, promise).then(() => resolve(`127.0.0.1:${port}`), reject);
  child.once('error', reject);
  child.once('exit', () => fail('ended at its start'));
  return promise.finally(() => {
    clearTimeout(timer);
    stopReading();
  });
}

/** Tries until somebody listens, or until `given` is settled otherwise. */
async function waitForPort(port: number, given: Promise<unknown>): Promise<void> {
  let isSettled = false;
  const settle = () => {
    isSettled = true;
  };
  given.then(settle, settle);
  while (!isSettled && !(await acceptsConnections(port))) await sleep(PORT_RETRY_MS);
}

function acceptsConnections(port: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect({ host: '127.0.0.1', port }, () => resolve(true)).once('error', () => resolve(false));
  return promise.finally(() => socket.destroy());
}

function capture(child: ChildProcess): () => string {
  let output = '';
  const stopReading = read(child, text => {
    output += text;
  });
  return () => {
    stopReading();
    return output;
  };
}

/** Gives a function that ends it. What nobody reads is dropped, as a full pipe would stop the server. */
function read(child: ChildProcess, onText: (text: string) => void): () => void {
  const onData = (chunk: Buffer) => onText(chunk.toString());
  child.stdout?.on('data', onData);
  child.stderr?.on('data', onData);
  return () => {
    child.stdout?.off('data', onData).resume();
    child.stderr?.off('data', onData).resume();
  };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const cut = setTimeout(() => child.kill('SIGKILL'), 5_000);
  await exit;
  clearTimeout(cut);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
