// Limits on incoming connections: their number, and how long each may keep us waiting. Limits apply to what a client owes us: the head of a
// request, its body, and reading the response; not to what a client waits for.
import { openSync, readSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import ipaddr from 'ipaddr.js';
import { HEALTH_PATHS } from '../admin/health.ts';
import { reasonPhrase } from '../distribution/mirror.ts';
import { createPipelining, type Repeat } from './pipelining.ts';

export interface ConnectionLimits {
  /** In total; fewer where the process may not open as many files. */
  readonly connections: number;
  /** Per address, or IPv6 network of a host; connections from this machine are only limited in total. */
  readonly connectionsPerAddress: number;
  /** From the first byte, or the start of a connection, to the end of a request's head. */
  readonly requestHeadMs: number;
  /** Between a response and the next request. */
  readonly keepAliveMs: number;
  /** The minimum average rate of a request body, in bytes per second. */
  readonly requestBodyRateBytes: number;
  /** How long a body may be slower. */
  readonly requestBodyGraceMs: number;
  /** How long a client may leave a response unread. */
  readonly unreadResponseMs: number;
  /** How long a connection may be silent in both directions, unless the client waits for a response to begin. */
  readonly idleConnectionMs: number;
}

interface Connections {
  /**
   * Enforces the limits on a server's connections until it is closed. `first` gets each request before the server's own listeners, except
   * those that `refuse` may reject. Call it before the server listens, and after these listeners were added.
   */
  guard(server: Server, first?: AnswersFirst): void;
  /** The response to a request on a connection beyond the limit; undefined for all others. */
  refuse(socket: Socket, request: Request): Response | undefined;
}

export interface AnswersFirst {
  /** False: the server's own listeners get the request. `headOf` gives its head, if requests with the same may be repeated. */
  answer(request: IncomingMessage, response: ServerResponse, headOf: HeadOf): boolean | Promise<boolean>;
  readonly repeat: Repeat;
}

type HeadOf = (request: IncomingMessage) => string | undefined;

export interface ConnectionsDeps {
  readonly limits: ConnectionLimits;
  /** Called at most every few seconds, with the number of connections closed or rejected because of the limits. */
  readonly onDropped?: (dropped: DroppedConnections) => void;
  /** Whether an address is a reverse proxy's, which has the connections of many clients; default: none is. */
  readonly isProxy?: (address: string | undefined) => boolean;
  /** How many files the process may currently open; undefined where unknown. */
  readonly findMaxFiles?: () => number | undefined;
}

export interface DroppedConnections {
  readonly cut: number;
  readonly refused: number;
  readonly open: number;
}

interface Connection {
  readonly socket: Socket;
  readonly peer: Peer;
  /** It was accepted beyond the limit: for health checks and authenticated callers only. */
  readonly isExtra: boolean;
  /** Whether a caller has authenticated on it. */
  isAuthenticated: boolean;
  /** Requests without a complete response. */
  pending: number;
}

/** A client, with all its connections. */
interface Peer {
  readonly key: string;
  readonly isLocal: boolean;
  readonly all: Set<Connection>;
}

/** A request body that is arriving. */
interface Arrival {
  readonly request: IncomingMessage;
  /** How long it may continue without a byte. */
  creditMs: number;
  /** Bytes read from the socket as of the last check. */
  bytes: number;
}

/** Connections beyond the limit, for operators and authenticated callers while anonymous clients hold all others. */
const EXTRA = 64;
/** The share of those for authenticated callers. */
const EXTRA_AUTHENTICATED = 48;
/** A request may need a socket, another one to an upstream, and a file. */
const FILES_PER_CONNECTION = 3;
const SWEEP_MS = 1000;
/** A body that was fast may pause for up to this many times the grace period. */
const MAX_CREDIT = 6;
const REPORT_EVERY_MS = 10_000;

export function createConnections(deps: ConnectionsDeps): Connections {
  const { limits, onDropped, isProxy = () => false, findMaxFiles = openMaxFiles() } = deps;
  const all = new Map<Socket, Connection>();
  const peers = new Map<string, Peer>();
  // In the order in which they became idle, or were accepted.
  const idle = { unauthenticated: new Set<Connection>(), authenticated: new Set<Connection>() };
  const arrivals = new Map<Connection, Arrival>();
  let repeatFirst: Repeat | undefined;
  const pipelining = createPipelining({ cut: socket => void cut(all.get(socket)), repeat });
  const dropped = { cut: 0, refused: 0 };
  let extraAuthenticated = 0;
  let max = maxOf(limits, findMaxFiles());
  let reportedAt = Number.NEGATIVE_INFINITY;

  function connect(socket: Socket): void {
    const { key, isLocal } = peerOf(socket.remoteAddress);
    const peer = peers.get(key) ?? { key, isLocal, all: new Set() };
    const isMany = isLocal || isProxy(socket.remoteAddress);
    const isAdmitted = isMany || peer.all.size < limits.connectionsPerAddress || cut(firstIdle(peer.all));
    const isWithinLimit =
      isAdmitted && (all.size < max || cut(firstOf(idle.unauthenticated) ?? firstOf(idle.authenticated)));
    if (!isAdmitted || (!isWithinLimit && all.size >= max + EXTRA)) {
      dropped.refused += 1;
      socket.destroy();
      return;
    }
    const connection = { socket, peer, isExtra: !isWithinLimit, isAuthenticated: false, pending: 0 };
    all.set(socket, connection);
    peers.set(key, peer);
    peer.all.add(connection);
    idle.unauthenticated.add(connection);
    pipelining.take(socket);
    socket.once('close', () => forget(connection));
  }

  function forget(connection: Connection): void {
    const { socket, peer, isExtra, isAuthenticated } = connection;
    if (!all.delete(socket)) return;
    if (isExtra && isAuthenticated) extraAuthenticated -= 1;
    peer.all.delete(connection);
    if (peer.all.size === 0) peers.delete(peer.key);
    idle.unauthenticated.delete(connection);
    idle.authenticated.delete(connection);
    arrivals.delete(connection);
  }

  function cut(connection: Connection | undefined): boolean {
    if (!connection) return false;
    dropped.cut += 1;
    forget(connection);
    connection.socket.destroy();
    return true;
  }

  function begin(connection: Connection, request: IncomingMessage, response: ServerResponse): void {
    occupy(connection);
    pipelining.begin(request, response);
    if (!request.complete) {
      const { bytesRead: bytes } = connection.socket;
      arrivals.set(connection, { request, creditMs: limits.requestBodyGraceMs, bytes });
    }
    response.once('finish', () => {
      if (request.headers.authorization !== undefined && response.statusCode < 400) markAuthenticated(connection);
    });
    response.once('close', () => release(connection));
  }

  function repeat(socket: Socket, head: string): ReturnType<Repeat> {
    const connection = all.get(socket);
    const answering = connection && !connection.isExtra && repeatFirst?.(socket, head);
    if (!answering) return false;
    occupy(connection);
    const finish = (repeated: Awaited<typeof answering>) => {
      if (repeated?.isAuthenticated) markAuthenticated(connection);
      // Otherwise the server gets the request now, before the connection counts as idle.
      if (repeated) release(connection);
      else setImmediate(() => release(connection));
      return repeated;
    };
    return answering.then(finish, () => finish(undefined));
  }

  function occupy(connection: Connection): void {
    connection.pending += 1;
    idle.unauthenticated.delete(connection);
    idle.authenticated.delete(connection);
  }

  function release(connection: Connection): void {
    connection.pending -= 1;
    if (connection.pending === 0 && all.has(connection.socket)) becomeIdle(connection);
  }

  function markAuthenticated(connection: Connection): void {
    if (connection.isAuthenticated) return;
    connection.isAuthenticated = true;
    if (connection.isExtra) extraAuthenticated += 1;
  }

  function becomeIdle(connection: Connection): void {
    if (all.size > max) connection.socket.destroySoon();
    (connection.isAuthenticated ? idle.authenticated : idle.unauthenticated).add(connection);
  }

  /** Time during which the process itself was blocked does not count against clients. */
  function sweep(elapsedMs: number): void {
    for (const [connection, arrival] of arrivals) {
      const { socket } = connection;
      const { request } = arrival;
      const gotMs = ((socket.bytesRead - arrival.bytes) / limits.requestBodyRateBytes) * 1000;
      arrival.bytes = socket.bytesRead;
      if (request.complete || request.destroyed) arrivals.delete(connection);
      // Bytes that have arrived but were not read yet are our delay.
      else if (request.readableLength === 0) {
        const most = limits.requestBodyGraceMs * MAX_CREDIT;
        arrival.creditMs = Math.min(arrival.creditMs + gotMs, most) - elapsedMs;
        if (arrival.creditMs < 0) socket.destroy();
      }
    }
    max = maxOf(limits, findMaxFiles());
    while (all.size > max && cut(firstOf(idle.unauthenticated) ?? firstOf(idle.authenticated)));
    report();
  }

  function isExtra(socket: Socket): boolean {
    return all.get(socket)?.isExtra ?? false;
  }

  function report(): void {
    if (dropped.cut + dropped.refused === 0 || performance.now() - reportedAt < REPORT_EVERY_MS) return;
    reportedAt = performance.now();
    onDropped?.({ ...dropped, open: all.size });
    dropped.cut = 0;
    dropped.refused = 0;
  }

  return {
    guard(server, first) {
      const everyMs = Math.min(SWEEP_MS, limits.requestBodyGraceMs / 4);
      let sweptAt = performance.now();
      const timer = setInterval(() => {
        const now = performance.now();
        sweep(Math.min(now - sweptAt, everyMs * 2));
        sweptAt = now;
      }, everyMs).unref();
      server.headersTimeout = limits.requestHeadMs;
      // A body may take any time, at its minimum rate.
      server.requestTimeout = 0;
      server.keepAliveTimeout = limits.keepAliveMs;
      server.on('connection', connect).once('close', () => clearInterval(timer));
      if (first) {
        const { headOf } = pipelining;
        answerFirst(server, (request, response) => !isExtra(request.socket) && first.answer(request, response, headOf));
        // While a server ends, it closes each connection after its answer, and lowers this first.
        const isEnding = () => server.keepAliveTimeout !== limits.keepAliveMs;
        repeatFirst = (socket, head) => !isEnding() && first.repeat(socket, head);
      }
      // Before any other listener gets the request, and may answer it.
      server.prependListener('request', (request, response) => {
        const connection = all.get(request.socket);
        if (connection) begin(connection, request, response);
      });
      dropSilent(server, limits);
    },
    refuse(socket, request) {
      if (!isExtra(socket)) return undefined;
      const connection = all.get(socket);
      const { pathname } = new URL(request.url);
      if (!connection || HEALTH_PATHS.includes(pathname)) return undefined;
      const mayBeAuthenticated = request.headers.has('authorization') && extraAuthenticated < EXTRA_AUTHENTICATED;
      if (connection.isAuthenticated || mayBeAuthenticated) return undefined;
      dropped.refused += 1;
      return overloadResponse(pathname, max);
    },
  };
}

/** The server's existing listeners only get the requests that `answer` leaves to them. */
function answerFirst(
  server: Server,
  answer: (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>,
): void {
  const listeners = server.listeners('request');
  const callListeners = (request: IncomingMessage, response: ServerResponse) => {
    for (const listener of listeners) listener.call(server, request, response);
  };
  server.removeAllListeners('request');
  server.on('request', (request, response) => {
    const isAnswered = answer(request, response);
    if (isAnswered === false) callListeners(request, response);
    else if (isAnswered !== true) void isAnswered.catch(() => false).then(is => is || callListeners(request, response));
  });
}

/**
 * Closes connections with unread responses, and silent ones, except those whose client waits for us, such as for a build: that has its own
 * limits.
 */
function dropSilent(server: Server, { unreadResponseMs, idleConnectionMs }: ConnectionLimits): void {
  const checkMs = Math.min(unreadResponseMs, idleConnectionMs);
  server.setTimeout(checkMs);
  server.on('request', (request, response) => {
    const { socket } = request;
    let silentMs = 0;
    let bytes = 0;
    response.on('timeout', () => {
      const isAnswerPending = request.complete && !response.headersSent;
      const moved = socket.bytesRead + socket.bytesWritten;
      silentMs = isAnswerPending || moved !== bytes ? checkMs : silentMs + checkMs;
      bytes = moved;
      const isUnread = response.writableLength > 0;
      if (!isAnswerPending && (isUnread || silentMs >= idleConnectionMs)) socket.destroy();
      else socket.setTimeout(checkMs);
    });
  });
}

function overloadResponse(pathname: string, max: number): Response {
  const message = `all ${max} connections are in use: try again, or raise limits.connections`;
  const body = pathname.startsWith('/v2') ? { errors: [{ code: 'TOOMANYREQUESTS', message }] } : { message };
  const headers = { 'Retry-After': '1', Connection: 'close' };
  return Response.json(body, { status: 503, statusText: reasonPhrase(message), headers });
}

function firstOf(connections: Iterable<Connection>): Connection | undefined {
  for (const connection of connections) return connection;
  return undefined;
}

function firstIdle(connections: Iterable<Connection>): Connection | undefined {
  for (const connection of connections) if (connection.pending === 0) return connection;
  return undefined;
}

/** A host usually has an IPv6 network of its own, with any number of addresses. */
function peerOf(remote: string | undefined): { readonly key: string; readonly isLocal: boolean } {
  if (remote === undefined || !ipaddr.isValid(remote)) return { key: '', isLocal: false };
  const address = ipaddr.process(remote);
  const key = address instanceof ipaddr.IPv6 ? address.parts.slice(0, 4).join(':') : address.toString();
  return { key, isLocal: address.range() === 'loopback' };
}

function maxOf({ connections }: ConnectionLimits, files = Number.POSITIVE_INFINITY): number {
  return Math.max(1, Math.min(connections, Math.floor(files / FILES_PER_CONNECTION)));
}

/** Linux reports it in a file, which is opened in advance: when it is needed most, no file can be opened. */
function openMaxFiles(): () => number | undefined {
  const buffer = Buffer.alloc(4096);
  try {
    const file = openSync('/proc/self/limits', 'r');
    return () => {
      const text = buffer.toString('latin1', 0, readSync(file, buffer, 0, buffer.byteLength, 0));
      const [, softLimit] = /^Max open files +(\d+)/m.exec(text) ?? [];
      return softLimit === undefined ? undefined : Number(softLimit);
    };
  } catch {
    return () => undefined;
  }
}
