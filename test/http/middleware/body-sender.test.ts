// Bodies over a socket: all bytes in order whatever the client's pace, and nothing left open however it ends.
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { connect, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createByteStream } from '../../../src/content/byte-stream.ts';
import { createBodySender } from '../../../src/http/middleware/body-sender.ts';

const TOKEN = '0123456789ab';
const PATH = `/v2/wt/${TOKEN}/app/blobs/sha256:0`;
/** More than sockets hold. */
const LARGE = 64 * 1024 * 1024;
/** So many that they have to share. */
const MANY = 150;
/** Of no length that a buffer has. */
const block = randomBytes(1_000_003);
const bytes = expectedBytes(9_000_000);

let app: Hono;
let server: Server;
let port: number;
let lines: string[];
let statuses: number[];

beforeEach(async () => {
  lines = [];
  statuses = [];
  app = new Hono();
  app.use(PATH, createBodySender(pino({}, { write: line => void lines.push(line) })));
  app.use(async (c, next) => {
    await next();
    statuses.push(c.res.status);
  });
  const started = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, info => {
    port = info.port;
  });
  if (!('closeAllConnections' in started)) throw new Error('not HTTP/1.1');
  server = started;
  await once(server, 'listening');
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise(resolve => server.close(resolve));
});

test('begins a few chunks at a time, however many bodies have theirs at hand', async () => {
  let begun = 0;
  let most = 0;
  const read = async (view: Uint8Array) => {
    begun += 1;
    return view.byteLength;
  };
  app.get(PATH, () => {
    const source = { read, close: async () => {} };
    return new Response(createByteStream(source));
  });
  const sockets = Array.from({ length: MANY }, () => connect(port, '127.0.0.1').pause());
  for (const socket of sockets) socket.write(`GET ${PATH} HTTP/1.1\r\nHost: x\r\n\r\n`);
  for (let all = 0; all < MANY * 2; begun = 0) {
    await nextTurn();
    most = Math.max(most, begun);
    all += begun;
  }
  for (const socket of sockets) socket.destroy();
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(16);
});

test('sends all bytes with the status and headers of the response', async () => {
  const headers = { 'Content-Length': `${bytes.length}`, 'Content-Type': 'application/octet-stream', ETag: '"x"' };
  app.get(PATH, () => new Response(createSource().stream, { status: 206, headers }));
  const response = await get();
  expect([response.status, response.headers.get('etag')]).toEqual([206, '"x"']);
  expect(response.headers.get('content-length')).toBe(`${bytes.length}`);
  expect(bytes.equals(await response.bytes())).toBe(true);
});

test('sends a body of unknown length', async () => {
  app.get(PATH, () => new Response(createSource().stream));
  expect(bytes.equals(await (await get()).bytes())).toBe(true);
});

test('leaves the response to middleware that is inside', async () => {
  app.get(PATH, () => new Response(createSource().stream, { status: 206 }));
  await (await get()).bytes();
  expect(statuses).toEqual([206]);
});

test.each([
  ['none', () => new Response(null, { status: 304 }), 304, ''],
  ['one of chunks', () => new Response(ReadableStream.from(['te', 'xt'].map(part => Buffer.from(part)))), 200, 'text'],
  ['an error', () => Response.json({ errors: [] }, { status: 404 }), 404, '{"errors":[]}'],
])('sends any other body: %s', async (_, respond, status, body) => {
  app.get(PATH, respond);
  const response = await get();
  expect([response.status, await response.text()]).toEqual([status, body]);
});

test('leaves the answers to HEADs alone', async () => {
  app.get(PATH, () => Response.json({ errors: [] }, { status: 404 }));
  const socket = await openConnection();
  socket.write(`${request({ method: 'HEAD' })}${request({ method: 'HEAD', headers: 'Connection: close\r\n' })}`);
  expect((await buffer(socket)).toString().match(/^HTTP\/1.1 404/gm)).toHaveLength(2);
});

test('passes a response on where there is no socket', async () => {
  app.get(PATH, () => new Response(createSource().stream));
  const response = await app.request(PATH);
  expect(bytes.equals(new Uint8Array(await response.arrayBuffer()))).toBe(true);
});

test('sends all bytes to many clients, whose buffers become smaller on the way', async () => {
  const gate = Promise.withResolvers<void>();
  let waiting = 0;
  app.get(PATH, () => {
    const { stream } = createSource(3_000_000, async offset => {
      if (offset < 1_500_000) return;
      waiting += 1;
      if (waiting === MANY) gate.resolve();
      await gate.promise;
    });
    return new Response(stream);
  });
  const responses = await Promise.all(Array.from({ length: MANY }, async () => (await get()).bytes()));
  const part = bytes.subarray(0, 3_000_000);
  expect(responses.filter(response => part.equals(response))).toHaveLength(MANY);
});

test('sends one body after the other over one connection', async () => {
  app.get(PATH, () => new Response(createSource(1000).stream, { headers: { 'Content-Length': '1000' } }));
  const socket = await openConnection();
  socket.write(`${request()}${request()}${request({ headers: 'Connection: close\r\n' })}`);
  const received = (await buffer(socket)).toString('latin1').split('\r\n\r\n').slice(1);
  expect(received.map(part => part.startsWith(block.toString('latin1', 0, 1000)))).toEqual([true, true, true]);
});

describe('a client', () => {
  test('who reads slowly holds the source back', async () => {
    const source = createSource(LARGE);
    app.get(PATH, () => new Response(source.stream));
    const hash = createHash('sha256');
    let received = 0;
    let ahead = 0;
    for await (const chunk of (await get()).body ?? []) {
      hash.update(chunk);
      received += chunk.byteLength;
      ahead = Math.max(ahead, source.served() - received);
      await new Promise(setImmediate);
    }
    expect([received, hash.digest('hex')]).toEqual([LARGE, hashOf(LARGE)]);
    // What the sockets hold, and two buffers.
    expect(ahead).toBeLessThan(LARGE / 2);
  });

  test.each([
    ['half way', 1],
    ['half way, with another request behind', 2],
  ])('who leaves %s cancels the body', async (_, requests) => {
    const sources = Array.from({ length: requests }, () => createSource(LARGE));
    const unused = sources.values();
    app.get(PATH, () => new Response(unused.next().value?.stream));
    const socket = await openConnection();
    socket.write(request().repeat(requests));
    await once(socket, 'data');
    socket.destroy();
    await Promise.all(sources.map(({ closed }) => closed));
    expect(lines).toEqual([]);
  });

  test('who leaves before the first byte cancels the body', async () => {
    const asked = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    const stream = createByteStream({
      read() {
        asked.resolve();
        return new Promise(() => {});
      },
      close: async () => closed.resolve(),
    });
    app.get(PATH, () => new Response(stream));
    const socket = await openConnection();
    socket.write(request());
    await asked.promise;
    socket.destroy();
    await closed.promise;
    expect(lines).toEqual([]);
  });

  test('who leaves while the body is looked for cancels it', async () => {
    const asked = Promise.withResolvers<void>();
    const source = createSource(LARGE);
    app.get(PATH, async c => {
      asked.resolve();
      await once(c.req.raw.signal, 'abort');
      return new Response(source.stream);
    });
    const socket = await openConnection();
    socket.write(request());
    await asked.promise;
    socket.destroy();
    await source.closed;
    expect(source.served()).toBe(0);
  });
});

test.each([
  ['of bytes', createByteStream({ read: () => Promise.reject(new Error('the disk is gone')), close: async () => {} })],
  ['of chunks', new ReadableStream({ pull: () => Promise.reject(new Error('the disk is gone')) })],
])('a body %s that fails breaks the connection, and the log says why but no token', async (_, stream) => {
  app.get(PATH, () => new Response(stream, { headers: { 'Content-Length': '10' } }));
  await expect(get().then(response => response.bytes())).rejects.toThrow();
  expect(lines.join()).toContain('the disk is gone');
  expect(lines.join()).not.toContain(TOKEN);
});

function get(): Promise<Response> {
  return fetch(`http://127.0.0.1:${port}${PATH}`);
}

function request({ method = 'GET', headers = '' } = {}): string {
  return `${method} ${PATH} HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`;
}

async function openConnection(): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  return socket;
}

function createSource(size = bytes.length, onRead: (offset: number) => Promise<void> = async () => {}) {
  let offset = 0;
  const closed = Promise.withResolvers<void>();
  const stream = createByteStream({
    async read(view) {
      await onRead(offset);
      const start = offset % block.length;
      const part = block.subarray(start, start + Math.min(view.byteLength, size - offset));
      view.set(part);
      offset += part.byteLength;
      return part.byteLength;
    },
    close: async () => closed.resolve(),
  });
  return { stream, closed: closed.promise, served: () => offset };
}

/** What a source of this size gives. */
function expectedBytes(size: number): Buffer {
  return Buffer.alloc(size, block);
}

function hashOf(size: number): string {
  return createHash('sha256').update(expectedBytes(size)).digest('hex');
}
