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
}

export interface PipeliningDeps {
  /** The maximum of requests started per event loop iteration, for all connections: others follow in the next ones. Default: 16. */
  readonly maxPerIteration?: number;
  /** Connections with requests beyond the one being answered, each of which holds at most 128 KiB. Default: 512. */
  readonly maxWaiting?: number;
  /** Called for the one that has waited longest, where there are more. */
  readonly cut: (socket: Socket) => void;
}

interface PipelinedConnection {
  readonly socket: Socket;
  /** Node's handler for received bytes. */
  readonly parse: (bytes: Buffer<ArrayBuffer>) => void;
  /** The last one that was started. */
  request: IncomingMessage | undefined;
  /** How much of its body is still to come; undefined where its length is unknown. */
  bodyLeft: number | undefined;
  /** Requests without a complete response. */
  pending: number;
}

const HEAD_END = '\r\n\r\n';

export function createPipelining({ maxPerIteration = 16, maxWaiting = 512, cut }: PipeliningDeps): Pipelining {
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
