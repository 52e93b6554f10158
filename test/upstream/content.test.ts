// Content of blobs: received in memory that is used again, byte for byte.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { Readable } from 'node:stream';
import { expect, onTestFinished, test } from 'vitest';
import { takeSource } from '../../src/content/byte-stream.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { createReceiver } from '../../src/upstream/transport/receiver.ts';
import { createReadBuffers } from '../../src/upstream/transport/transport.ts';
import { listen, openUpstream, pem, type Server } from './server.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const RAW = randomBytes(8 * MIB);
const DIGEST = digestOf(RAW);

/** Reads all of it through one view, and gives up at the first byte that is another. Returns how many were right. */
async function compare(body: ReadableStream<Uint8Array>, viewBytes: number, raw: Uint8Array = RAW): Promise<number> {
  const source = takeSource(body);
  if (!source) throw new TypeError('no byte stream');
  const view = new Uint8Array(viewBytes);
  for (let position = 0; ; ) {
    const bytes = await source.read(view);
    const expected = raw.subarray(position, position + bytes);
    if (bytes === 0 || Buffer.compare(view.subarray(0, bytes), expected) !== 0) return position;
    position += bytes;
  }
}

function serve(how: 'plain' | 'TLS' | 'chunked'): Promise<Server> {
  const headers = how === 'chunked' ? {} : { 'content-length': RAW.length };
  return listen(
    (_req, res) => {
      res.writeHead(200, headers);
      for (let at = 0; at < RAW.length; at += 100_000) res.write(RAW.subarray(at, at + 100_000));
      res.end();
    },
    how === 'TLS' ? {} : undefined,
  );
}

test.each(
  (['plain', 'TLS', 'chunked'] as const).flatMap(how =>
    [5000, 64 * KIB, 200_000, MIB].map(view => [how, view] as const),
  ),
)('a blob that comes %s arrives byte for byte, through a view of %i', async (how, viewBytes) => {
  const { url } = await serve(how);
  const upstream = openUpstream({ url, tls: { ca: pem('ca.pem') } });
  const blobs = await Promise.all([0, 1, 2].map(() => upstream.openBlob('a', DIGEST)));
  const right = await Promise.all(blobs.map(({ body }) => compare(body, viewBytes)));
  expect(right).toEqual(Array(3).fill(RAW.length));
});

test.each([
  ['of limited concurrency', (url: string) => ({ url, concurrency: 2 })],
  ['with a mirror', (url: string) => ({ url, mirrors: [{ url: 'http://127.0.0.1:1' }] })],
])('a blob of an upstream %s fills views, too', async (_name, entryOf) => {
  const { url } = await serve('plain');
  const { body } = await openUpstream(entryOf(url)).openBlob('a', DIGEST);
  expect(await compare(body, MIB)).toBe(RAW.length);
});

test('what comes with the headers, before somebody reads, comes first', async () => {
  const { url } = await serve('plain');
  const { body } = await openUpstream({ url }).openBlob('a', DIGEST);
  // Until as much waits as is taken without a reader.
  await new Promise(resolve => setImmediate(resolve));
  expect(await compare(body, MIB)).toBe(RAW.length);
});

test('a range of a server that sends everything begins where it should', async () => {
  const { url } = await serve('plain');
  const range = { start: 3 * MIB + 7, end: 5 * MIB };
  const { body } = await openUpstream({ url }).openBlob('a', DIGEST, { range });
  const part = RAW.subarray(range.start, range.end + 1);
  expect(await compare(body, 64 * KIB, part)).toBe(part.length);
});

test('a connection is used again after a body that was read to its end', async () => {
  const server = await serve('plain');
  const upstream = openUpstream({ url: server.url });
  for (let count = 0; count < 6; count += 1) {
    const { body } = await upstream.openBlob('a', DIGEST);
    expect(await compare(body, MIB)).toBe(RAW.length);
  }
  // One that just became free is not used by a request of the same moment.
  expect(new Set(server.requests.map(({ socket }) => socket.remotePort)).size).toBeLessThan(3);
});

/** A server that answers each request with these bytes, whatever it is, and keeps the connection. */
async function answerRaw(...answers: readonly (readonly Uint8Array[])[]) {
  let requests = 0;
  const server = createServer(socket => {
    socket.on('error', () => {});
    socket.on('data', () => {
      socket.write(Buffer.concat(answers[requests] ?? []));
      requests += 1;
    });
  }).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return `http://127.0.0.1:${address.port}`;
}

const head = (bytes: number, more = '') => Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n${more}\r\n`);

test.each([
  ['another answer', [head(RAW.length), Buffer.alloc(RAW.length, 'evil')]],
  ['bytes of the same', [RAW.subarray(0, 100_000)]],
])('what comes behind a body is no answer to the next request: %s', async (_name, behind) => {
  const url = await answerRaw([head(RAW.length), RAW, ...behind], [head(RAW.length), RAW]);
  const upstream = openUpstream({ url });
  for (let count = 0; count < 2; count += 1) {
    const { body } = await upstream.openBlob('a', DIGEST);
    expect(await compare(body, MIB)).toBe(RAW.length);
  }
});

test('what comes before an answer, and behind a chunked body, is none of it', async () => {
  const chunks = [RAW.subarray(0, 70_000), RAW.subarray(70_000)];
  const chunked = chunks.flatMap(chunk => [
    Buffer.from(`${chunk.length.toString(16)};a=b\r\n`),
    chunk,
    Buffer.from('\r\n'),
  ]);
  const url = await answerRaw([
    Buffer.from('HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n'),
    Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n'),
    ...chunked,
    Buffer.from('0\r\nX-A: b\r\n\r\n'),
  ]);
  const { body } = await openUpstream({ url }).openBlob('a', DIGEST);
  expect(await compare(body, 200_000)).toBe(RAW.length);
});

test('a body of tiny chunks is received whole, and read in few pieces', async () => {
  const small = RAW.subarray(0, 60_000);
  const chunks = Array.from(small, byte => Buffer.from(`1\r\n${String.fromCharCode(byte)}\r\n`, 'latin1'));
  const start = Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
  const url = await answerRaw([start, ...chunks, Buffer.from('0\r\n\r\n')]);
  const source = takeSource((await openUpstream({ url }).openBlob('a', digestOf(small))).body);
  const view = new Uint8Array(MIB);
  const received: Uint8Array[] = [];
  for (let bytes = await source?.read(view); bytes; bytes = await source?.read(view))
    received.push(view.slice(0, bytes));
  expect(Buffer.compare(Buffer.concat(received), small)).toBe(0);
  expect(received.length).toBeLessThan(1000);
});

test('a connection is paused once many chunks wait, however small they are', () => {
  const receiver = createReceiver(() => {});
  let paused = false;
  const controller = {
    ...{ aborted: false, reason: null, abort() {}, resume() {} },
    get paused() {
      return paused;
    },
    pause() {
      paused = true;
    },
  };
  let send: (chunk: Buffer) => void = () => {};
  const dispatch = receiver.intercept((_, handler) => {
    handler.onRequestStart?.(controller, {});
    send = chunk => handler.onResponseData?.(controller, chunk);
    return true;
  });
  dispatch({ path: '/', method: 'GET' }, {});
  receiver.take(new Readable({ read() {} }));
  let chunks = 0;
  for (; !paused && chunks < 10_000; chunks += 1) send(Buffer.from('a'));
  expect(chunks).toBeLessThanOrEqual(256);
});

test('a body that is closed while a read waits ends that read, and the connection', async () => {
  const { promise: left, resolve } = Promise.withResolvers<void>();
  const { url } = await listen((req, res) => {
    res.writeHead(200, { 'content-length': RAW.length }).write('first');
    req.socket.on('close', resolve);
  });
  const { body } = await openUpstream({ url }).openBlob('a', DIGEST);
  const source = takeSource(body);
  const view = new Uint8Array(MIB);
  expect(await source?.read(view)).toBe(5);
  const waiting = source?.read(view);
  await source?.close();
  expect(await waiting).toBe(0);
  await left;
});

/** What a socket reads of these bytes into buffers of which each is released once it is read. */
async function readThrough(raw: Uint8Array, skip = 0): Promise<{ readonly raw: Buffer; readonly arrays: number }> {
  const server = createServer(socket => socket.end(raw)).listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await new Promise(resolve => server.once('listening', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const { onread, release } = createReadBuffers();
  const socket = connect({ port: address.port, host: '127.0.0.1', onread });
  const chunks: Buffer[] = [];
  const arrays = new Set<ArrayBufferLike>();
  socket.on('data', (chunk: Buffer) => {
    chunks.push(Buffer.from(chunk));
    // Less is a copy.
    if (chunk.byteLength >= 16 * KIB) arrays.add(chunk.buffer);
    release(chunk.subarray(skip));
  });
  await once(socket, 'end');
  return { raw: Buffer.concat(chunks), arrays: arrays.size };
}

test('memory of a connection is used again once what it was filled with is released', async () => {
  const raw = randomBytes(16 * MIB);
  const read = await readThrough(raw);
  expect(Buffer.compare(read.raw, raw)).toBe(0);
  expect(read.arrays).toBeLessThan(5);
});

test('memory of a connection that is released in part is not used again', async () => {
  const { arrays } = await readThrough(randomBytes(4 * MIB), 1);
  expect(arrays).toBeGreaterThan(16);
});
