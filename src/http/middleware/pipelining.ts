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

interface Line {
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
  const lines = new WeakMap<Socket, Line>();
  /** They wait for an answer of their own. */
  const waiting = new Set<Line>();
  // They wait for a turn of the loop: those that have had an answer meanwhile get half of it, and so hold up nobody who has had none.
  const ready = { first: new Set<Line>(), again: new Set<Line>() };
  let begun = 0;
  let hasNextTurn = false;

  function read(line: Line, bytes: Buffer<ArrayBuffer>): void {
    let rest = bytes;
    while (rest.length > 0 && !line.socket.destroyed) {
      if (!mayGoOn(line)) {
        keep(line, rest);
        return;
      }
      const length = lengthOfNext(line, rest);
      if (line.bodyLeft !== undefined) line.bodyLeft -= length;
      line.parse(length === rest.length ? rest : rest.subarray(0, length));
      rest = rest.subarray(length);
    }
  }

  function mayGoOn(line: Line): boolean {
    if (line.request?.complete === false) return true;
    if (line.pending > 0) {
      waiting.add(line);
      return false;
    }
    if (begun >= maxPerTurn) {
      ready.first.add(line);
      return false;
    }
    begun += 1;
    takeTurn();
    return true;
  }

  function keep(line: Line, rest: Buffer<ArrayBuffer>): void {
    line.socket.pause();
    line.socket.unshift(rest);
    const [longest] = waiting;
    if (waiting.size > maxWaiting && longest) cut(longest.socket);
  }

  function takeTurn(): void {
    if (hasNextTurn) return;
    hasNextTurn = true;
    setImmediate(() => {
      hasNextTurn = false;
      begun = 0;
      const again = resume(ready.again, Math.ceil(maxPerTurn / 2));
      resume(ready.first, maxPerTurn - again);
      if (ready.first.size + ready.again.size > 0) takeTurn();
    });
  }

  return {
    take(socket) {
      const [parse, ...others] = socket.listeners('data');
      // Somebody else reads it.
      if (!parse || others.length > 0) return;
      const line: Line = {
        ...{ socket, request: undefined, bodyLeft: undefined, pending: 0 },
        parse: bytes => void parse.call(socket, bytes),
      };
      lines.set(socket, line);
      socket.removeAllListeners('data');
      socket.on('data', (bytes: Buffer<ArrayBuffer>) => read(line, bytes));
      socket.once('close', () => {
        waiting.delete(line);
        ready.first.delete(line);
        ready.again.delete(line);
      });
    },
    begin(request, response) {
      const line = lines.get(request.socket);
      if (!line) return;
      const { 'content-length': length } = request.headers;
      line.request = request;
      line.bodyLeft = length === undefined ? undefined : Number(length);
      line.pending += 1;
      response.once('close', () => {
        line.pending -= 1;
        if (line.pending > 0 || !waiting.delete(line)) return;
        ready.again.add(line);
        takeTurn();
      });
    },
  };
}

/** How many went on: at most `max`. */
function resume(lines: Set<Line>, max: number): number {
  const next = [...lines.values().take(max)];
  for (const line of next) {
    lines.delete(line);
    line.socket.resume();
  }
  return next.length;
}

/** As far as one request goes: the rest of its body, or the end of its head. Where neither is known, Node finds out. */
function lengthOfNext({ request, bodyLeft }: Line, bytes: Buffer<ArrayBuffer>): number {
  if (request?.complete === false) return bodyLeft && bodyLeft > 0 ? Math.min(bodyLeft, bytes.length) : bytes.length;
  const end = bytes.indexOf(HEAD_END);
  return end < 0 ? bytes.length : end + HEAD_END.length;
}
