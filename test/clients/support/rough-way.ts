// A way to a registry that tests make rough: the transfer of a blob is cut, or held, after so many bytes.
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { Server } from './daemons.ts';

export interface RoughWay extends Server {
  /** Paths that were asked for, from the first. */
  readonly paths: readonly string[];
  /** Transfers of the blob that is rough, from the first. */
  readonly transfers: readonly Transfer[];
  /** From now on, transfers of this blob that send more bytes than given are cut: the first after the first number, and so on. */
  cut(digest: string, ...afterBytes: readonly number[]): void;
  /** From now on, transfers of this blob stop after so many bytes, and go on with nothing. */
  hold(digest: string, afterBytes: number): void;
}

export interface Transfer {
  /** The header of the request. */
  readonly range: string | undefined;
  /** What was sent, in bytes. */
  readonly sent: number;
}

interface Obstacle {
  readonly afterBytes: number;
  readonly isCut: boolean;
}

/** `target` is host:port. */
export async function startRoughWay(target: string): Promise<RoughWay> {
  const paths: string[] = [];
  const transfers: { range: string | undefined; sent: number }[] = [];
  let digest: string | undefined;
  let next: () => Obstacle | undefined = () => undefined;

  function pass(answer: IncomingMessage, outgoing: ServerResponse): void {
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(outgoing);
  }

  function passRoughly(answer: IncomingMessage, outgoing: ServerResponse, range: string | undefined): void {
    const transfer = { range, sent: 0 };
    transfers.push(transfer);
    const obstacle = next();
    outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, (obstacle?.afterBytes ?? Number.POSITIVE_INFINITY) - transfer.sent);
      transfer.sent += part.length;
      outgoing.write(part);
      if (transfer.sent !== obstacle?.afterBytes) return;
      answer.destroy();
      // What was written still arrives.
      if (obstacle.isCut) outgoing.socket?.destroySoon();
    });
    answer.on('end', () => outgoing.end());
  }

  const server = createServer((incoming, outgoing) => {
    const { method, url: path = '', headers } = incoming;
    paths.push(path);
    const isRough = method === 'GET' && digest !== undefined && path.includes(digest);
    const passed = request(`http://${target}`, { method, path, headers }, answer =>
      isRough ? passRoughly(answer, outgoing, headers.range) : pass(answer, outgoing),
    );
    passed.on('error', () => outgoing.destroy());
    outgoing.on('close', () => passed.destroy());
    incoming.pipe(passed);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = Object(server.address());

  return {
    address: `127.0.0.1:${port}`,
    paths,
    transfers,
    cut(blob, ...afterBytes) {
      digest = blob;
      const left = afterBytes.map(bytes => ({ afterBytes: bytes, isCut: true }));
      next = () => left.shift();
    },
    hold(blob, afterBytes) {
      digest = blob;
      next = () => ({ afterBytes, isCut: false });
    },
    async stop() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
