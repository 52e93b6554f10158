// A service in a process of its own, under attack over its real port, while somebody else keeps asking whether it lives.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect } from 'vitest';

const MAIN = join(import.meta.dirname, '../../src/main.ts');
const MIB = 1024 * 1024;
const MAX_WORST_MS = 250;
/** What is slow without an attack says nothing of one. */
const MAX_TIMES_BASELINE = 5;
const MAX_MEMORY_BYTES = 512 * MIB;
/** How long it is watched before an attack: a few answers. */
const RESTING_MS = 200;

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

interface Sent {
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal;
}

export interface Victim {
  readonly port: number;
  readonly host: string;
  /** Each on a connection of its own. */
  ask(method: string, path: string, sent?: Sent): Promise<Answer>;
  submit(body: unknown, sent?: Sent): Promise<Answer>;
  /** A connection that has sent `text`. It is closed in the end. */
  connect(text: string): Promise<Socket>;
  /** The bytes that lie below a folder of the data directory. */
  diskBytes(folder?: string): Promise<number>;
  /** Processor time so far. */
  cpuSeconds(): Promise<number>;
  /** Runs an attack, and expects that the service answers all the while, and takes no more memory than it may. */
  hold(attack: () => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

export async function startVictim(config: Readonly<Record<string, unknown>>): Promise<Victim> {
  const folder = mkdtempSync(join(tmpdir(), 'veneer-victim-'));
  const data = join(folder, 'data');
  const file = join(folder, 'veneer.yaml');
  await writeFile(file, JSON.stringify({ listen: '127.0.0.1:0', dataDir: data, ...config }));
  const { VENEER_CONFIG: _, VENEER_DATA_DIR: __, VENEER_LISTEN: ___, VENEER_LOG: ____, ...env } = process.env;
  const child = spawn(process.execPath, [MAIN, '--config', file], { cwd: folder, env, stdio: 'pipe' });
  const port = await portOf(child);
  const host = `127.0.0.1:${port}`;
  const sockets = new Set<Socket>();

  async function ask(method: string, path: string, { headers = {}, body, signal }: Sent = {}): Promise<Answer> {
    const sent = request({ host: '127.0.0.1', port, method, path, headers, agent: false, ...(signal && { signal }) });
    // Who is refused early may still be sending.
    sent.on('error', () => {});
    sent.end(body);
    const [response] = await once(sent, 'response');
    return { status: response.statusCode, headers: response.headers, text: (await buffer(response)).toString() };
  }

  return {
    ...{ port, host, ask },
    submit: (body, sent) =>
      ask('POST', '/v1alpha2/container', {
        ...sent,
        headers: { 'content-type': 'application/json', ...sent?.headers },
        body: JSON.stringify(body),
      }),
    async connect(text) {
      const socket = connect(port, '127.0.0.1');
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => sockets.delete(socket));
      await Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => {});
      socket.write(text);
      return socket;
    },
    diskBytes: (part = '') => bytesBelow(join(data, part)),
    cpuSeconds: () => cpuSecondsOf(child),
    async hold(attack) {
      const resting = { ...(await watch(port, () => delay(RESTING_MS))), share: shareOfOthers() };
      await forgetPeak(child);
      const { worstMs, failures } = await watch(port, attack);
      for (const socket of sockets) socket.destroy();
      expect([child.exitCode, child.signalCode], 'the process lives').toEqual([null, null]);
      expect(failures, 'checks of its health that failed').toEqual([]);
      const share = Math.max(resting.share, shareOfOthers());
      expect(
        worstMs,
        `the worst answer in ms, where ${resting.worstMs} is usual, and ${share} wait for a processor`,
      ).toBeLessThan(Math.max(MAX_WORST_MS * share, resting.worstMs * MAX_TIMES_BASELINE));
      expect((await peakBytes(child)) / MIB, 'MiB of memory').toBeLessThan(MAX_MEMORY_BYTES / MIB);
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** How many times longer work takes than on a machine that has nothing else to do. */
function shareOfOthers(): number {
  const began = performance.now();
  const cpu = process.cpuUsage();
  const spent = () => {
    const { user, system } = process.cpuUsage(cpu);
    return (user + system) / 1000;
  };
  while (spent() < 60);
  return Math.max(1, (performance.now() - began) / spent());
}

async function portOf(child: ChildProcess): Promise<number> {
  let seen = '';
  child.stderr?.on('data', chunk => {
    seen += chunk;
  });
  return new Promise((resolve, reject) => {
    child.stdout?.on('data', chunk => {
      seen += chunk;
      const [, port] = /listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(seen) ?? [];
      if (port !== undefined) resolve(Number(port));
      if (seen.length > MIB) seen = '';
    });
    child.once('exit', () => reject(new Error(`it did not start: ${seen}`)));
  });
}

interface Watched {
  readonly worstMs: number;
  readonly failures: readonly string[];
}

/** In a thread of its own: what the attacker does must not count as what the victim does. */
const WATCHER = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { get } = require('node:http');
  let worstMs = 0, asked = 0, left = Infinity;
  const failures = [];
  const ask = () => {
    const began = performance.now();
    const note = failure => {
      worstMs = Math.max(worstMs, performance.now() - began);
      if (failure) failures.push(failure);
      asked += 1;
      if (asked === 1) parentPort.postMessage('begun');
      left -= 1;
      if (left > 0) setTimeout(ask, 50);
      else parentPort.postMessage({ worstMs, failures });
    };
    const sent = get({ host: '127.0.0.1', port: workerData, path: '/health/live', agent: false, timeout: 20000 }, response => {
      response.resume().on('end', () => note(response.statusCode === 200 ? undefined : 'status ' + response.statusCode));
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer'))).on('error', error => note(error.message));
  };
  ask();
  // What froze it is seen only when it answers again: to a request that is under way, or waits for its turn, and to two others.
  parentPort.once('message', () => { left = 3; });
`;

async function watch(port: number, work: () => Promise<unknown>): Promise<Watched> {
  const worker = new Worker(WATCHER, { eval: true, workerData: port });
  await once(worker, 'message');
  try {
    await work();
  } finally {
    worker.postMessage('end');
  }
  const [watched] = await once(worker, 'message');
  return watched;
}

const isLinux = process.platform === 'linux';

async function forgetPeak({ pid }: ChildProcess): Promise<void> {
  if (isLinux) await writeFile(`/proc/${pid}/clear_refs`, '5');
}

async function peakBytes({ pid }: ChildProcess): Promise<number> {
  if (!isLinux) return 0;
  const [, kib] = /^VmHWM:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}

async function cpuSecondsOf({ pid }: ChildProcess): Promise<number> {
  if (!isLinux) return 0;
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function bytesBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = entries.map(async entry => {
    const found = entry.isFile() ? await stat(join(entry.parentPath, entry.name)).catch(() => undefined) : undefined;
    return found ? found.blocks * 512 : 0;
  });
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
