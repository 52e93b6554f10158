// Child processes of the client tests: started on free ports, awaited until they answer, stopped by their own id.
import { execFile, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';

export interface Running {
  /** Ends the process (SIGTERM, then SIGKILL after ten seconds) and waits until it is gone. */
  stop(): Promise<void>;
}

export interface Killable extends Running {
  readonly pid: number | undefined;
  /** SIGKILL, as a crash or the kernel does it: waits until it is gone. */
  kill(): Promise<void>;
  /** What it has written so far: the last million characters of it. */
  readOutput(): string;
}

export interface RunOptions {
  readonly cwd?: string;
  /** Added to this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** What it reads from its standard input, such as a password. */
  readonly input?: string;
  readonly timeoutMs?: number;
}

export interface StartOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Throws or rejects as long as the process does not answer yet. */
  readonly checkReady: () => Promise<unknown>;
}

const LAST_LINES_MS = 300;

/** Starts a daemon and waits for its readiness; throws with the end of its output if it leaves or stays silent. */
export async function startProcess(
  command: string,
  args: readonly string[],
  { cwd, env = {}, checkReady }: StartOptions,
): Promise<Killable> {
  const child = spawn(command, args, {
    ...(cwd && { cwd }),
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      output = `${output}${chunk}`.slice(-1_000_000);
    });
  }
  child.on('error', error => {
    output += error.message;
  });
  const hasLeft = () => child.pid === undefined || child.exitCode !== null || child.signalCode !== null;

  async function end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (hasLeft()) return;
    const [left, closed] = [once(child, 'exit'), once(child, 'close')];
    child.kill(signal);
    const kill = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await left;
    clearTimeout(kill);
    // Its last lines are still to be read; a process that it has left behind may hold its output open.
    await Promise.race([closed, wait(LAST_LINES_MS)]);
  }
  const stop = () => end('SIGTERM');

  try {
    await waitUntil(checkReady, hasLeft);
    return { pid: child.pid, stop, kill: () => end('SIGKILL'), readOutput: () => output };
  } catch (error) {
    await stop();
    throw new Error(`${command} is not ready: ${output.slice(-4_000)}`, { cause: error });
  }
}

/** Waits until the check passes. Rejects with what the check says after a minute, or as soon as it is over without. */
export async function waitUntil(check: () => Promise<unknown>, isOver: () => boolean = () => false): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (isOver() || Date.now() > deadline) throw error;
    }
    await wait(100);
  }
}

/** Runs a command to its end and gives its output; a non-zero exit throws with its stderr. */
export async function run(
  command: string,
  args: readonly string[],
  { cwd, env = {}, input, timeoutMs = 100_000 }: RunOptions = {},
): Promise<string> {
  const running = promisify(execFile)(command, args, {
    ...(cwd && { cwd }),
    env: { ...process.env, ...env },
    maxBuffer: 16 * 1024 * 1024,
    timeout: timeoutMs,
  });
  running.child.stdin?.end(input);
  const { stdout } = await running;
  return stdout.trim();
}

/** Below those that the kernel assigns, and apart from those of test files that run beside this one. */
const FIRST_PORT = 20_000;
const PORTS_PER_WORKER = 1000;
const MAX_WORKERS = 10;

let lastGiven = randomInt(PORTS_PER_WORKER);

/** A port of the loopback that nobody listens on, and that nobody else is given: its turn comes again after all others. */
export async function findFreePort(): Promise<number> {
  const first = FIRST_PORT + (Number(process.env.VITEST_POOL_ID ?? 0) % MAX_WORKERS) * PORTS_PER_WORKER;
  for (;;) {
    lastGiven = (lastGiven + 1) % PORTS_PER_WORKER;
    const port = first + lastGiven;
    const server = createServer().listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

/** Throws unless the address answers with a success. */
export async function checkUrl(url: string): Promise<void> {
  const response = await fetch(url);
  await response.body?.cancel();
  if (!response.ok) throw new Error(`${url} answers ${response.status}`);
}
