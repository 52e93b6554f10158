// The edge of the process: arguments, the socket, signals and the drain.
import { existsSync, writeSync } from 'node:fs';
import { createServer, Server } from 'node:http';
import { availableParallelism, homedir, hostname, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { createAdaptorServer, type Http2Bindings, type HttpBindings } from '@hono/node-server';
import { type Logger, pino } from 'pino';
import manifest from '../package.json' with { type: 'json' };
import { AccessFault } from './access/access.ts';
import { createForwarding } from './access/address.ts';
import { type App, type AppDeps, createApp } from './app/app.ts';
import { startWorkers, WORKER_VARIABLE, WorkerFault } from './app/primary.ts';
import type { Reread } from './app/ruling.ts';
import { type Channel, createWorker, type ToWorker, type Worker } from './app/worker.ts';
import type { RootFlags as Flags } from './cli/root.ts';
import { findConfigFile, loadConfig } from './config/config.ts';
import { ConfigError } from './config/faults.ts';
import { describeStart, findPublicUrlWarning, listenUrl, suggestPull } from './config/own-address.ts';
import type { Config } from './config/schema.ts';
import { createConnections, type DroppedConnections } from './http/middleware/connections.ts';
import { createTlsListener, TlsFault, type TlsListener } from './http/middleware/tls.ts';
import { DirectoryLocked, FATAL_REPORT, markCrash, StateFault } from './state/data-directory.ts';
import { RecordStoreHeld } from './state/postgres-connection.ts';
import { RecordStoreAway, RecordStoreFailed, RecordStoreFull } from './state/store.ts';

/** In characters. Above the command, which runs while this module is evaluated. */
const ACCESS_LOG_BUFFER = 16 * 1024;
/** What several processes write to one pipe is not mixed up to this size. */
const SHARED_LOG_BUFFER = 4096;
const ACCESS_LOG_FLUSH_MS = 200;
/** In bytes. */
const MAX_UNREAD = 2 ** 20;
const OUTPUT_RETRY_MS = 5;

let isServing = false;

// A command whose reader leaves, such as head, has nothing left to do; the service lives on.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', error => {
    if (!('code' in error && error.code === 'EPIPE')) throw error;
    if (!isServing) process.exit();
  });
}

// Records contain tokens, layers and the addresses of layers: our files are private.
process.umask(0o077);
const serviceFlags = findServiceFlags(process.argv.slice(2));
await (serviceFlags ? run(serviceFlags) : runCommand()).catch(refuseToStart);

/** Of a start without a command; undefined where there may be one, or anything that is to be refused. */
function findServiceFlags(args: readonly string[]): Flags | undefined {
  const option = { type: 'string' } as const;
  try {
    const { values } = parseArgs({ args: [...args], options: { config: option, listen: option, 'data-dir': option } });
    const { config, listen, 'data-dir': dataDir } = values;
    return {
      ...(config !== undefined && { config }),
      ...(listen !== undefined && { listen }),
      ...(dataDir !== undefined && { dataDir }),
    };
  } catch {
    return undefined;
  }
}

/** All commands are loaded where there is one: a service needs none. */
async function runCommand(): Promise<void> {
  const { createCommands } = await import('./commands.ts');
  const { version } = manifest;
  await createCommands({ version, serve: run, readConfig, findOwner }).parseAsync();
}

async function run(flags: Flags): Promise<void> {
  isServing = true;
  const config = readConfig(flags);
  const workerId = takeWorkerId();
  const { log, accessLog } = await createLogs(config, workerId?.number);
  const count = config.workers === 'auto' ? availableParallelism() : config.workers;
  if (count > 1 && !workerId) return runWorkers(flags, { config, count, log });
  const channel = openChannel();
  const worker = workerId && createWorker(workerId, channel);
  const { environment, dockerConfigPath } = findOwner();
  const commit = findCommit();
  const configFile = findFile(flags);
  let listenHost: string | undefined;
  const listening = Promise.withResolvers<void>();
  const app = await createApp({
    ...{ config, log, accessLog, commit, configFile, version: manifest.version },
    ...{ dockerConfigPath, environment },
    findListenHost: () => listenHost,
    memoryLimitBytes: findMemoryLimit(),
    listening: listening.promise,
    reread: createReread(flags),
    worker,
  });
  watchEnding(config.dataDir);
  const { server, listener } = openServer(app, config, {
    log,
    onListening(port) {
      if (worker) channel.send({ topic: 'listening', port });
      else announce(log, config, { port, commit, file: configFile });
      listenHost = listenUrl({ ...config.listen, port }, config.tls).host;
      listening.resolve();
    },
  });
  if (worker) {
    channel.onMessage(message => {
      if (message.topic === 'drain') void drain(message.signal);
      if (message.topic === 'reload') reload();
    });
    // A terminal, and some supervisors, send a signal to each process.
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
  } else {
    onSignals({ drain: signal => void drain(signal), reload });
  }

  function reload(): void {
    listener?.check();
    void app.reloadRules();
  }

  /** Stops accepting connections, lets requests finish within the grace time, and exits. */
  async function drain(signal: NodeJS.Signals): Promise<void> {
    log.info({ signal, graceMs: config.shutdownGraceMs }, 'draining');
    // A connection that carries its last request is closed afterwards.
    server.keepAliveTimeout = 1;
    const cut = setTimeout(() => (listener ?? server).closeAllConnections(), config.shutdownGraceMs);
    const ended = new Promise<void>(resolve => (listener ?? server).close(() => resolve()));
    await Promise.all([ended, app.drain()]);
    clearTimeout(cut);
    await app.close();
    log.info('stopped');
    if (worker) process.disconnect?.();
  }
}

/** The primary process of several workers. */
async function runWorkers(
  flags: Flags,
  { config, count, log }: { readonly config: Config; readonly count: number; readonly log: Logger },
): Promise<void> {
  const primary = startWorkers({
    ...{ config, count, log },
    onListening(port) {
      announce(log, config, { port, commit: findCommit(), file: findFile(flags), count });
    },
    onLost: refuseToStart,
  });
  onSignals({
    drain(signal) {
      log.info({ signal, graceMs: config.shutdownGraceMs }, 'draining all workers');
      primary.drain(signal);
    },
    reload: primary.reload,
  });
  await primary.started;
  await primary.ended;
  log.info('all workers have stopped');
}

/** Undefined where this process is no worker. Child processes of this one are none either. */
function takeWorkerId(): Pick<Worker, 'number' | 'count'> | undefined {
  const [number, count] = process.env[WORKER_VARIABLE]?.split('/').map(Number) ?? [];
  delete process.env[WORKER_VARIABLE];
  return number === undefined || count === undefined ? undefined : { number, count };
}

/** To the primary process. */
function openChannel(): Channel {
  return {
    send(message) {
      // Where the primary process has ended, so does this one.
      if (process.connected) process.send?.(message, undefined, {}, () => {});
    },
    onMessage: listener => void process.on('message', (message: ToWorker) => listener(message)),
  };
}

function onSignals({ drain, reload }: { drain(signal: NodeJS.Signals): void; reload(): void }): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => drain(signal));
  // For a terminal: the service has stopped.
  if (process.stdout.isTTY) process.once('SIGHUP', () => drain('SIGHUP'));
  else process.on('SIGHUP', reload);
}

function findCommit(): string | undefined {
  return process.env.VENEER_COMMIT || undefined;
}

/** Of the configuration. */
function findFile(flags: Flags): string | undefined {
  const path = findConfigFile({ env: process.env, flags });
  return existsSync(path) ? resolve(path) : undefined;
}

/** A crash must be known to the next process, since a build may have caused it. V8 writes a report when it dies, without secrets. */
function watchEnding(directory: string): void {
  process.on('uncaughtExceptionMonitor', () => markCrash(directory));
  Object.assign(process.report, {
    ...{ reportOnFatalError: true, directory: resolve(directory), filename: FATAL_REPORT },
    ...{ excludeEnv: true, excludeNetwork: true, compact: true },
  });
}

/** A container has less memory than the machine. Without a limit, Node reports 0 or an impossible amount. */
function findMemoryLimit(): number {
  return Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem());
}

/** What this user has set. Without a passwd entry, as in a container, there is a home only if HOME is set. */
function findOwner() {
  const home = findHome();
  return {
    environment: { ...process.env, HOME: home },
    dockerConfigPath: join(process.env.DOCKER_CONFIG ?? join(home, '.docker'), 'config.json'),
  };
}

function findHome(): string {
  try {
    return homedir();
  } catch {
    return '/';
  }
}

function openServer(
  { fetch, ready }: App,
  { listen, limits, trustedProxies, tls }: Config,
  { log, onListening }: { readonly log: Logger; readonly onListening: (port: number) => void },
): { readonly server: Server; readonly listener: TlsListener | undefined } {
  const { host, port } = listen;
  const onDropped = (dropped: DroppedConnections) =>
    log.warn(dropped, 'connections were closed or refused: all are in use (limits.connections)');
  const connections = createConnections({ limits, onDropped, isProxy: createForwarding(trustedProxies).isTrusted });
  const server = createAdaptorServer({
    fetch(request: Request, env: HttpBindings | Http2Bindings) {
      const refusal = connections.refuse(env.incoming.socket, request);
      if (!refusal) return fetch(request, env);
      env.outgoing.statusMessage = refusal.statusText;
      return refusal;
    },
    createServer,
    serverOptions: { connectionsCheckingInterval: Math.min(limits.requestHeadMs / 2, 5000) },
  });
  if (!(server instanceof Server)) throw new TypeError('this server is not of node:http');
  connections.guard(server, ready);
  const onError = ({ message }: Error) => {
    process.stderr.write(`cannot listen on ${host}:${port}: ${message}; choose another address with --listen\n`);
    process.exit(1);
  };
  const listener = tls && openTls(tls, { server, limits, log });
  if (listener) {
    listener.onError(onError);
    listener.listen(listen, onListening);
    return { server, listener };
  }
  server.on('error', onError).listen(port, host, () => {
    const address = server.address();
    onListening(typeof address === 'object' && address ? address.port : port);
  });
  return { server, listener };
}

function openTls(
  files: NonNullable<Config['tls']>,
  { server, limits, log }: { readonly server: Server; readonly limits: Config['limits']; readonly log: Logger },
): TlsListener {
  return createTlsListener({
    ...{ files, server, maxConnections: limits.connections * 2, handshakeMs: limits.requestHeadMs },
    onReloaded: ({ validTo }) => log.info({ validTo }, 'the TLS certificate was reloaded'),
    onFault: ({ message }) =>
      log.error({ reason: message }, 'the changed TLS files cannot be used: the previous ones stay'),
  });
}

/** Errors that an operator can fix are printed without a stack; anything else is a bug. */
function refuseToStart(error: unknown): never {
  const isKnown = [
    ...[ConfigError, AccessFault, TlsFault, DirectoryLocked, StateFault, WorkerFault],
    ...[RecordStoreFull, RecordStoreHeld, RecordStoreAway, RecordStoreFailed],
  ].some(known => error instanceof known);
  if (!isKnown || !(error instanceof Error)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}

function readConfig(flags: Flags): Config {
  return loadConfig({ env: process.env, flags });
}

/** A file that existed must still exist: its removal does not remove rules. */
function createReread(flags: Flags): Reread {
  const path = findConfigFile({ env: process.env, flags });
  let wasThere = existsSync(path);
  return {
    path,
    read() {
      wasThere ||= existsSync(path);
      return loadConfig({ env: process.env, flags, ...(wasThere && { file: path }) });
    },
  };
}

interface Logs {
  readonly log: Logger;
  readonly accessLog: NonNullable<AppDeps['accessLog']>;
}

/** Lines of the access log are written many at a time, and any other line at once, with those before it. */
async function createLogs({ log: { level, format: wanted } }: Config, worker: number | undefined): Promise<Logs> {
  const format = wanted ?? (process.stdout.isTTY ? 'pretty' : 'json');
  if (format === 'pretty') {
    const { default: pretty } = await import('pino-pretty');
    const log = pino({ level, ...(worker && { base: { worker } }) }, pretty({ sync: true, singleLine: true }));
    return { log, accessLog: { format } };
  }
  const out = createOutput(1);
  let waiting = '';
  const write = (line: string) => {
    out.write(waiting + line);
    waiting = '';
  };
  const flush = () => {
    if (waiting !== '') write('');
  };
  const bufferSize = worker === undefined ? ACCESS_LOG_BUFFER : SHARED_LOG_BUFFER;
  const collect = (line: string) => {
    if (waiting.length + line.length > bufferSize) flush();
    waiting += line;
  };
  setInterval(flush, ACCESS_LOG_FLUSH_MS).unref();
  process.on('exit', () => {
    flush();
    out.end();
  });
  const base = { pid: process.pid, hostname: hostname(), ...(worker && { worker }) };
  return { log: pino({ level, base }, { write }), accessLog: { format, direct: { base, write: collect } } };
}

interface Output {
  /** Each text by one write, as far as the reader takes it. */
  write(text: string): void;
  /** Waits until the reader has all. */
  end(): void;
}

/** What the reader of a pipe has not taken yet stays in memory, and is tried again. Where that is too much, the process waits for the reader. */
function createOutput(fd: number): Output {
  const unread: Buffer[] = [];
  let unreadBytes = 0;
  let isWaiting = false;

  function flush(maxBytes: number): void {
    for (let [first] = unread; first; [first] = unread) {
      const written = writeSome(fd, first);
      unreadBytes -= written;
      if (written === first.length) unread.shift();
      else if (written > 0) unread[0] = first.subarray(written);
      else if (unreadBytes > maxBytes) sleepSync(OUTPUT_RETRY_MS);
      else {
        tryLater();
        return;
      }
    }
  }

  function tryLater(): void {
    if (isWaiting) return;
    isWaiting = true;
    setTimeout(() => {
      isWaiting = false;
      flush(MAX_UNREAD);
    }, OUTPUT_RETRY_MS).unref();
  }

  return {
    write(text) {
      const written = unread.length > 0 ? 0 : writeSome(fd, text);
      if (written === Buffer.byteLength(text)) return;
      const rest = Buffer.from(text).subarray(written);
      unread.push(rest);
      unreadBytes += rest.length;
      flush(MAX_UNREAD);
    },
    end: () => flush(0),
  };
}

/** Returns how many bytes were written: none where the reader is behind, and all where there is no reader any more. */
function writeSome(fd: number, bytes: string | Buffer): number {
  try {
    return typeof bytes === 'string' ? writeSync(fd, bytes) : writeSync(fd, bytes);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error;
    if (error.code === 'EAGAIN') return 0;
    if (error.code === 'EPIPE') return Buffer.byteLength(bytes);
    throw error;
  }
}

function sleepSync(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** What runs, with what, and at last what to try. */
function announce(log: Logger, config: Config, { port, commit, file, count }: Started): void {
  const listen = { ...config.listen, port };
  for (const line of describeStart(config, { version: manifest.version, commit, file })) log.info(line);
  const doubt = findPublicUrlWarning({ ...config, listen });
  if (doubt !== undefined) log.warn(doubt);
  const image = suggestPull({ ...config, listen });
  const attempt = image === undefined ? '' : `; try: docker pull ${image}`;
  const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
  const url = `${config.tls ? 'https' : 'http'}://${host}:${port}`;
  const workers = count === undefined ? '' : ` with ${count} workers`;
  log.info({ dataDir: config.dataDir }, `listening on ${url}${workers}, data in ${config.dataDir}${attempt}`);
}

interface Started {
  readonly port: number;
  readonly commit: string | undefined;
  /** Of the configuration. */
  readonly file: string | undefined;
  /** Of the workers. */
  readonly count?: number;
}
