// Requests that a client sends before it has the answer to the one before: each is read from its connection when it is its turn, and so what a
// client sends without reading waits in its own buffers. Node reads all that has come, up to 64 KiB of requests, and begins them at once. The
// price is its short way from the socket to the parser: the bytes of a push take a fifth more of the processor.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

interface Pipelining {
  /** From now on requests of the connection begin one after the other. To be called as the server has taken it. */
  take(socket: Socket): void;
  /** To be called for each request of such a connection as it begins. */
  begin(request: IncomingMessage, response: ServerResponse): void;
}

export interface PipeliningDeps {
  /** Of all connections: the others begin in the next turns of the loop, in their order. Default: 16. */
  readonly maxPerTurn?: number;
  /** Connections with more requests than the one that is being answered, each of which keeps 128 KiB at most. Default: 512. */
  readonly maxWaiting?: number;
  /** Is called for the one that has waited longest, where there are more. */
  readonly cut: (socket: Socket) => void;
}

interface PipelinedConnection {
  readonly socket: Socket;
  /** What Node does with what has come. */
  readonly parse: (bytes: Buffer<ArrayBuffer>) => void;
  /** The last that has begun. */
  request: IncomingMessage | undefined;
  /** How much of its body is still to come; undefined where it does not say. */
  bodyLeft: number | undefined;
  /** Requests without a whole answer. */
  pending: number;
}

const HEAD_END = '\r\n\r\n';

export function createPipelining({ maxPerTurn = 16, maxWaiting = 512, cut }: PipeliningDeps): Pipelining {
  const connections = new WeakMap<Socket, PipelinedConnection>();
  /** They wait for an answer of their own. */
  const waiting = new Set<PipelinedConnection>();
  // They wait for a turn of the loop: those that have had an answer meanwhile get half of it, and so hold up nobody who has had none.
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
      if (connection.bodyLeft !== undefined) connection.bodyLeft -= length;
      connection.parse(length === rest.length ? rest : rest.subarray(0, length));
      rest = rest.subarray(length);
    }
  }

  function mayParse(connection: PipelinedConnection): boolean {
    if (connection.request?.complete === false) return true;
    if (connection.pending > 0) {
      waiting.add(connection);
      return false;
    }
    if (started >= maxPerTurn) {
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
      const resumed = resume(ready.resumed, Math.ceil(maxPerTurn / 2));
      resume(ready.first, maxPerTurn - resumed);
      if (ready.first.size + ready.resumed.size > 0) scheduleResume();
    });
  }

  return {
    take(socket) {
      const [parse, ...others] = socket.listeners('data');
      // Somebody else reads it.
      if (!parse || others.length > 0) return;
      const connection: PipelinedConnection = {
        ...{ socket, request: undefined, bodyLeft: undefined, pending: 0 },
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
      response.once('close', () => {
        connection.pending -= 1;
        if (connection.pending > 0 || !waiting.delete(connection)) return;
        ready.resumed.add(connection);
        scheduleResume();
      });
    },
  };
}

/** How many went on: at most `max`. */
function resume(connections: Set<PipelinedConnection>, max: number): number {
  const next = [...connections.values().take(max)];
  for (const connection of next) {
    connections.delete(connection);
    connection.socket.resume();
  }
  return next.length;
}

/** As far as one request goes: the rest of its body, or the end of its head. Where neither is known, Node finds out. */
function lengthOfNext({ request, bodyLeft }: PipelinedConnection, bytes: Buffer<ArrayBuffer>): number {
  if (request?.complete === false) return bodyLeft && bodyLeft > 0 ? Math.min(bodyLeft, bytes.length) : bytes.length;
  const end = bytes.indexOf(HEAD_END);
  return end < 0 ? bytes.length : end + HEAD_END.length;
}
