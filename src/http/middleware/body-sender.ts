// Sends blobs to a Node socket through one or two buffers per response. The default way of sending a Response allocates a buffer for each
// chunk, and a large body then costs more in page faults and garbage collection than in copying.
import type { ServerResponse } from 'node:http';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { MiddlewareHandler } from 'hono';
import type { Logger } from 'pino';
import { type ByteSource, takeSource } from '../../content/byte-stream.ts';
import { RegistryError } from '../../oci/errors.ts';
import { type BufferShare, createSendBuffers, type SendBuffersOptions } from './body-memory.ts';
import { noteError } from './errors.ts';

/** The Node server's bindings of a request. */
interface Env {
  readonly Bindings: { readonly outgoing?: ServerResponse };
}

/**
 * Sends the body of a response as fast as the client reads. It is cancelled when the client leaves; when it fails, the connection is closed
 * and the reason logged. Goes outside of any middleware that reads the response: nothing is left of it.
 */
export function createBodySender(log: Logger, buffers: SendBuffersOptions = {}): MiddlewareHandler<Env> {
  // Once a Node server has replaced the global Response, it sends an unread one as it is, and finds no mark in its headers.
  void RESPONSE_ALREADY_SENT.body;
  const shareBuffers = createSendBuffers(buffers);
  const yieldToOthers = createYield();
  return async (c, next) => {
    await next();
    // There is no environment at all for a request that did not arrive over a socket.
    const outgoing = c.env?.outgoing;
    const { body, status, headers } = c.res;
    // hono itself answers a HEAD, without its body.
    if (!outgoing || !body || c.req.method === 'HEAD') return;
    outgoing.writeHead(status, Object.fromEntries(headers));
    // The first bytes may take long to arrive.
    outgoing.flushHeaders();
    const length = headers.get('content-length');
    const share = shareBuffers(length === null ? undefined : Number(length));
    await send(openReader(body), outgoing, { share, yieldToOthers })
      .catch(error => {
        const requestId = c.get('request')?.id;
        log.warn({ err: error, requestId }, 'a response body failed: its connection was closed');
        noteError(c, bodyError(error));
        outgoing.destroy();
      })
      .finally(share.leave);
    // Set twice, or hono would merge the headers of the two.
    c.res = undefined;
    c.res = RESPONSE_ALREADY_SENT;
  };
}

function bodyError(error: unknown) {
  const { code, message } = error instanceof RegistryError ? error : { code: 'UNKNOWN', message: String(error) };
  return { status: 500, code, message };
}

interface BodyReader {
  /**
   * Returns the next chunk, or none at the end, and a buffer to pass back once the chunk is no longer needed. It may use the buffer passed
   * now.
   */
  read(buffer: ArrayBuffer): Promise<{ readonly chunk?: Uint8Array; readonly buffer: ArrayBuffer }>;
  cancel(): Promise<void>;
}

function openReader(body: ReadableStream<Uint8Array>): BodyReader {
  const source = takeSource(body);
  if (source) return readSource(source);
  try {
    return fillBuffers(body.getReader({ mode: 'byob' }));
  } catch (error) {
    // Not a byte stream.
    if (!(error instanceof TypeError)) throw error;
    return takeChunks(body.getReader());
  }
}

function readSource(source: ByteSource): BodyReader {
  return {
    async read(buffer) {
      const bytes = await source.read(new Uint8Array(buffer));
      return bytes === 0 ? { buffer } : { chunk: new Uint8Array(buffer, 0, bytes), buffer };
    },
    cancel: source.close,
  };
}

function fillBuffers(reader: ReadableStreamBYOBReader): BodyReader {
  return {
    async read(brought) {
      const { done, value } = await reader.read(new Uint8Array(brought));
      return done ? { buffer: brought } : { chunk: value, buffer: value.buffer };
    },
    cancel: () => reader.cancel(),
  };
}

function takeChunks(reader: ReadableStreamDefaultReader<Uint8Array>): BodyReader {
  return {
    async read(buffer) {
      const { done, value } = await reader.read();
      return done ? { buffer } : { chunk: value, buffer };
    },
    cancel: () => reader.cancel(),
  };
}

/** A buffer, and how long its client took to read its content. */
interface Written {
  readonly buffer: ArrayBuffer;
  readonly durationMs: number;
}

const NOTHING = Promise.resolve<Written | undefined>(undefined);

/** This many chunks are started before other requests are served. */
const CHUNKS_AT_ONCE = 2;

/**
 * If many bodies have their next chunk ready, each event loop iteration starts only a few of them, so that other requests do not wait.
 */
function createYield(): () => Promise<void> | undefined {
  const waiting: (() => void)[] = [];
  let taken = 0;

  function next(): void {
    const resumed = waiting.splice(0, CHUNKS_AT_ONCE);
    taken = resumed.length;
    if (taken > 0) setImmediate(next);
    for (const begin of resumed) begin();
  }

  return () => {
    if (taken === 0) setImmediate(next);
    if (taken < CHUNKS_AT_ONCE) {
      taken += 1;
      return undefined;
    }
    return new Promise(resolve => waiting.push(resolve));
  };
}

interface Sending {
  readonly share: BufferShare;
  readonly yieldToOthers: () => Promise<void> | undefined;
}

async function send(reader: BodyReader, outgoing: ServerResponse, { share, yieldToOthers }: Sending): Promise<void> {
  const leave = () => void reader.cancel().catch(() => {});
  outgoing.once('close', leave);
  if (outgoing.destroyed) leave();
  let free = share.open();
  /** The buffer that becomes free when the previous write is done. */
  let other = NOTHING;
  for (;;) {
    await yieldToOthers();
    const { chunk, buffer } = await reader.read(free);
    const next = await other;
    if (!chunk) {
      const unused = outgoing.destroyed ? [] : next ? [buffer, next.buffer] : [buffer];
      unused.forEach(share.giveBack);
      break;
    }
    const begunAt = performance.now();
    const written = write(outgoing, chunk).then(() => ({ buffer, durationMs: performance.now() - begunAt }));
    if (share.hasPair) {
      free = next ? share.fit(next.buffer, next.durationMs) : share.open();
      other = written;
    } else {
      next?.buffer.transfer(0);
      const { buffer, durationMs } = await written;
      free = share.fit(buffer, durationMs);
      other = NOTHING;
    }
  }
  outgoing.end();
}

/** Resolves when the socket no longer needs the chunk: it was sent, or the client has left. */
function write(outgoing: ServerResponse, chunk: Uint8Array): Promise<void> {
  return new Promise(resolve => outgoing.write(chunk, () => resolve()));
}
