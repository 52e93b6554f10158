// Serves pipelined requests one after the other: each is only read from its connection when it is next, so that requests sent without
// reading responses stay in the client's own buffers. Node reads everything that has arrived, up to 64 KiB of requests, and starts them all
// at once. The price is Node's fast path from the socket to the parser: the bytes of a push take a fifth more processor time.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

interface Pipelining {
  /** Makes the requests of the connection start one after the other. Call it once the server has accepted it. */
  take(socket: Socket): void;
  /** Call it for each request of such a connection when it starts. */
  begin(request: IncomingMessage, response: ServerResponse): void;
  /** The whole head of a request that has no complete response, as latin1; undefined where the same head may get another answer. */
  headOf(request: IncomingMessage): string | undefined;
}

/**
 * Answers a request that is the same, byte by byte, as one that the server has parsed, by writing to its socket. False, or a promise of
 * nothing: the server gets it. The promise resolves when the answer was written, and never rejects.
 */
export type Repeat = (socket: Socket, head: string) => false | Promise<Repeated | undefined>;

export interface Repeated {
  /** Whether the request had valid credentials. */
  readonly isAuthenticated: boolean;
}

export interface PipeliningDeps {
  /** The maximum of requests started per event loop iteration, for all connections: others follow in the next ones. Default: 16. */
  readonly maxPerIteration?: number;
  /** Connections with requests beyond the one being answered, each of which holds at most 128 KiB. Default: 512. */
  readonly maxWaiting?: number;
  /** Called for the one that has waited longest, where there are more. */
  readonly cut: (socket: Socket) => void;
  /** Gets the head of each request but the first of a connection, before the server does. Default: none is answered. */
  readonly repeat?: Repeat | undefined;
}

interface PipelinedConnection {
  readonly socket: Socket;
  /** Node's handler for received bytes. */
  readonly parse: (bytes: Buffer<ArrayBuffer>) => void;
  /** The last one that was started. */
  request: IncomingMessage | undefined;
  /** How much of its body is still to come; undefined where its length is unknown. */
  bodyLeft: number | undefined;
  /** Its bytes, up to the end of its head; undefined where it is complete. */
  head: Buffer | undefined;
  /** Whether the server's parser expects a new head: the last bytes it got were a whole one, of a request without a body. */
  isBetween: boolean;
  /** Requests without a complete response. */
  pending: number;
}

const HEAD_END = Buffer.from('\r\n\r\n');
/** In bytes, of a head that is kept to be compared with others. */
const MAX_REPEATED = 4096;

export function createPipelining({ maxPerIteration = 16, maxWaiting = 512, cut, repeat }: PipeliningDeps): Pipelining {
  const connections = new WeakMap<Socket, PipelinedConnection>();
  /** They wait for a response of their own. */
  const waiting = new Set<PipelinedConnection>();
  // Connections that wait for an event loop iteration: those that had a response before get half of it, so that they do not delay new ones.
  const ready = { first: new Set<PipelinedConnection>(), resumed: new Set<PipelinedConnection>() };
  let started = 0;
  let isScheduled = false;

  function read(connection: PipelinedConnection, bytes: Buffer<ArrayBuffer>): void {
    let rest = bytes;
    while (rest.length > 0 && !connection.socket.destroyed) {
      if (!mayParse(connection)) {
        pauseAt(connection, rest);
        return;
      }
      const length = lengthOfNext(connection, rest);
      const next = length === rest.length ? rest : rest.subarray(0, length);
      if (!repeatOn(connection, next)) parse(connection, next);
      rest = rest.subarray(length);
    }
  }

  /** The server's parser must be between two requests: bytes that look like a head may be a part of another request. */
  function repeatOn(connection: PipelinedConnection, bytes: Buffer<ArrayBuffer>): boolean {
    const { socket, isBetween, request } = connection;
    // Node waits for the first head of a connection, and closes it when none comes.
    if (!repeat || !isBetween || !request || bytes.length > MAX_REPEATED || socket.writableLength > 0) return false;
    const answering = repeat(socket, bytes.toString('latin1'));
    if (!answering) return false;
    connection.pending += 1;
    void answering.then(repeated => {
      if (!repeated && !socket.destroyed) parse(connection, bytes);
      end(connection);
    });
    return true;
  }

  function parse(connection: PipelinedConnection, bytes: Buffer<ArrayBuffer>): void {
    const { request: before, isBetween } = connection;
    if (connection.bodyLeft !== undefined) connection.bodyLeft -= bytes.length;
    connection.head = isBetween && bytes.length <= MAX_REPEATED ? bytes : undefined;
    connection.parse(bytes);
    // The end of a body of unknown length may come with the beginning of another head.
    const isHead = connection.request !== before && connection.request?.complete === true;
    connection.isBetween = isHead && bytes.subarray(-HEAD_END.length).equals(HEAD_END);
  }

  function end(connection: PipelinedConnection): void {
    connection.pending -= 1;
    if (connection.pending > 0) return;
    connection.head = undefined;
    if (!waiting.delete(connection)) return;
    ready.resumed.add(connection);
    scheduleResume();
  }

  function mayParse(connection: PipelinedConnection): boolean {
    if (connection.request?.complete === false) return true;
    if (connection.pending > 0) {
      waiting.add(connection);
      return false;
    }
    if (started >= maxPerIteration) {
      ready.first.add(connection);
      return false;
    }
    started += 1;
    scheduleResume();
    return true;
  }

  function pauseAt(connection: PipelinedConnection, rest: Buffer<ArrayBuffer>): void {
    connection.socket.pause();
    connection.socket.unshift(rest);
    const [longest] = waiting;
    if (waiting.size > maxWaiting && longest) cut(longest.socket);
  }

  function scheduleResume(): void {
    if (isScheduled) return;
    isScheduled = true;
    setImmediate(() => {
      isScheduled = false;
      started = 0;
      const resumed = resume(ready.resumed, Math.ceil(maxPerIteration / 2));
      resume(ready.first, maxPerIteration - resumed);
      if (ready.first.size + ready.resumed.size > 0) scheduleResume();
    });
  }

  return {
    take(socket) {
      const [parse, ...others] = socket.listeners('data');
      // Something else reads it.
      if (!parse || others.length > 0) return;
      const connection: PipelinedConnection = {
        ...{ socket, request: undefined, bodyLeft: undefined, head: undefined, isBetween: true, pending: 0 },
        parse: bytes => void parse.call(socket, bytes),
      };
      connections.set(socket, connection);
      socket.removeAllListeners('data');
      socket.on('data', (bytes: Buffer<ArrayBuffer>) => read(connection, bytes));
      socket.once('close', () => {
        waiting.delete(connection);
        ready.first.delete(connection);
        ready.resumed.delete(connection);
      });
    },
    begin(request, response) {
      const connection = connections.get(request.socket);
      if (!connection) return;
      const { 'content-length': length } = request.headers;
      connection.request = request;
      connection.bodyLeft = length === undefined ? undefined : Number(length);
      connection.pending += 1;
      response.once('close', () => end(connection));
    },
    headOf(request) {
      const connection = connections.get(request.socket);
      return connection?.request === request && isRepeatable(request) ? connection.head?.toString('latin1') : undefined;
    },
  };
}

/** Returns how many were resumed: at most `max`. */
function resume(connections: Set<PipelinedConnection>, max: number): number {
  const next = [...connections.values().take(max)];
  for (const connection of next) {
    connections.delete(connection);
    connection.socket.resume();
  }
  return next.length;
}

/**
 * The length of one request: the rest of its body, or up to the end of its head. Where neither is known, Node determines it.
 */
function lengthOfNext({ request, bodyLeft }: PipelinedConnection, bytes: Buffer<ArrayBuffer>): number {
  if (request?.complete === false) return bodyLeft && bodyLeft > 0 ? Math.min(bodyLeft, bytes.length) : bytes.length;
  const end = bytes.indexOf(HEAD_END);
  return end < 0 ? bytes.length : end + HEAD_END.length;
}

/** Whether another request with the same head has the same answer, but for its id, and the connection stays open after it. */
function isRepeatable({ httpVersion, headers }: IncomingMessage): boolean {
  const staysOpen = httpVersion === '1.1' && /^(keep-alive)?$/i.test(headers.connection ?? '');
  return staysOpen && OF_ONE.every(name => headers[name] === undefined);
}

/** A request with one of these headers has an id of its own, or waits before its body. */
const OF_ONE = ['x-request-id', 'traceparent', 'expect', 'upgrade'] as const;

/** Returns the time as Node writes it. */
export function createFormatDate(): () => string {
  let second = 0;
  let text = '';
  return () => {
    const now = Math.floor(Date.now() / 1000);
    if (now !== second) text = new Date(now * 1000).toUTCString();
    second = now;
    return text;
  };
}

/** Bytes received on each connection when its last request ended: the head of the next is read before anything sees it. */
const receivedBefore = new WeakMap<Socket, number>();

/** How many bytes the connection has received since this was called last. Call it when a request ends. */
export function takeReceived(socket: Socket): number {
  const { bytesRead } = socket;
  const before = receivedBefore.get(socket) ?? 0;
  receivedBefore.set(socket, bytesRead);
  return bytesRead - before;
}
