// A way to a registry that tests make rough: the transfer of a blob is cut, or held, after so many bytes.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Relay, startRelay } from './relay.ts';

export interface RoughWay extends Relay {
  /** Transfers of the blob that is rough, from the first. */
  readonly transfers: readonly Transfer[];
  /** From now on, transfers of this blob that send more bytes than given are cut: the first after the first number, and so on. */
  cut(digest: string, ...afterBytes: readonly number[]): void;
  /** From now on, transfers of this blob stop after so many bytes, and go on with nothing. */
  hold(digest: string, afterBytes: number): void;
}

interface Transfer {
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
  const transfers: { range: string | undefined; sent: number }[] = [];
  let digest: string | undefined;
  let next: () => Obstacle | undefined = () => undefined;

  function passRoughly(answer: IncomingMessage, outgoing: ServerResponse, range: string | undefined): void {
    const transfer = { range, sent: 0 };
    transfers.push(transfer);
    const obstacle = next();
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

  const relay = await startRelay(target, (answer, outgoing, { method, url, headers }) => {
    const isRough = method === 'GET' && digest !== undefined && url?.includes(digest);
    if (isRough) passRoughly(answer, outgoing, headers.range);
    else answer.pipe(outgoing);
  });

  return {
    ...relay,
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
  };
}
