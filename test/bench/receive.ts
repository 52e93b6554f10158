// The body of an answer, as cheaply as Node receives one: the socket reads into a few buffers in turn, where Node would allocate one for each piece.
import { connect } from 'node:net';
import { MANIFEST_TYPE } from './image.ts';

interface Received {
  /** In bytes. */
  readonly length: number;
  /** A piece may be used until sixty others have come. */
  readonly body: AsyncIterable<Uint8Array>;
}

interface Ring {
  readonly buffers: readonly Buffer[];
  at: number;
}

const BUFFERS = 64;
const BUFFER_BYTES = 128 * 1024;
const MAX_WAITING = 4;

const free: Ring[] = [];

/** From a server that tells the length, on a connection of its own. Throws for a status that is not 200. */
export async function receive(url: string): Promise<Received> {
  const { hostname, port, pathname } = new URL(url);
  const ring = free.pop() ?? createRing();
  const waiting: Buffer[] = [];
  let wake = () => {};
  const socket = connect({
    host: hostname,
    port: Number(port),
    onread: {
      buffer: () => next(ring),
      callback(bytes, buffer) {
        waiting.push(Buffer.from(buffer.buffer, buffer.byteOffset, bytes));
        wake();
        return waiting.length < MAX_WAITING;
      },
    },
  });
  socket.write(`GET ${pathname} HTTP/1.1\r\nHost: ${hostname}\r\nAccept: ${MANIFEST_TYPE}, */*\r\n\r\n`);

  async function take(): Promise<Buffer> {
    if (waiting.length === 0) {
      await new Promise<void>(resolve => {
        wake = resolve;
        socket.resume();
      });
    }
    const [first = Buffer.alloc(0)] = waiting.splice(0, 1);
    return first;
  }

  async function* read(first: Buffer, length: number): AsyncGenerator<Uint8Array> {
    let left = length - first.byteLength;
    if (first.byteLength > 0) yield first;
    while (left > 0) {
      const piece = await take();
      left -= piece.byteLength;
      yield piece;
    }
    socket.destroy();
    free.push(ring);
  }

  // Headers come in one piece.
  const start = await take();
  const end = start.indexOf('\r\n\r\n');
  const head = start.toString('latin1', 0, end);
  const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
  if (!head.startsWith('HTTP/1.1 200') || length === undefined) throw new Error(`${url}: ${head}`);
  return { length: Number(length), body: read(start.subarray(end + 4), Number(length)) };
}

function createRing(): Ring {
  return { buffers: Array.from({ length: BUFFERS }, () => Buffer.allocUnsafeSlow(BUFFER_BYTES)), at: 0 };
}

function next(ring: Ring): Buffer {
  ring.at = (ring.at + 1) % BUFFERS;
  const buffer = ring.buffers[ring.at];
  if (!buffer) throw new RangeError('no such buffer');
  return buffer;
}
