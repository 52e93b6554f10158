// Child processes of the client tests: started on free ports, awaited until they answer, stopped by their own id.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface Running {
  /** Ends the process (SIGTERM, then SIGKILL after ten seconds) and waits until it is gone. */
  stop(): Promise<void>;
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  /** Throws or rejects as long as the process does not answer yet. */
  readonly checkReady: () => Promise<unknown>;
}

/** Starts a daemon and waits for its readiness; throws with the end of its output if it leaves or stays silent. */
export async function startProcess(
  command: string,
  args: readonly string[],
  { env = {}, timeoutMs = 60_000, checkReady }: StartOptions,
): Promise<Running> {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      output = `${output}${chunk}`.slice(-4_000);
    });
  }
  child.on('error', error => {
    output += error.message;
  });
  const hasLeft = () => child.pid === undefined || child.exitCode !== null || child.signalCode !== null;

  async function stop(): Promise<void> {
    if (hasLeft()) return;
    const left = once(child, 'exit');
    child.kill('SIGTERM');
    const kill = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await left;
    clearTimeout(kill);
  }

  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const error = await checkReady().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error === undefined) return { stop };
    if (hasLeft() || Date.now() > deadline) {
      await stop();
      throw new Error(`${command} is not ready: ${output}`, { cause: error });
    }
    await wait(100);
  }
}

/** Runs a command to its end and gives its output; a non-zero exit throws with its stderr. */
export async function run(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const { stdout } = await promisify(execFile)(command, args, {
    env: { ...process.env, ...env },
    maxBuffer: 16 * 1024 * 1024,
    timeout: 100_000,
  });
  return stdout.trim();
}

/** A port of the loopback that nobody listened on a moment ago. */
export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

/** Throws unless the address answers with a success. */
export async function checkUrl(url: string): Promise<void> {
  const response = await fetch(url);
  await response.body?.cancel();
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
}
