// Bodies: resumed where they were cut, given up where that would be a lie, let go of when nobody reads on.
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer, text } from 'node:stream/consumers';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { IMPATIENT, PATIENT } from '../support/patience.ts';
import { failure, json, listen, open, openUpstream, type Server } from './server.ts';

const RAW = Buffer.from('0123456789');
const DIGEST = digestOf(RAW);
const ETAG = '"v1"';

type Answer = (req: IncomingMessage, res: ServerResponse) => void;

/** Sends the first `bytes` of what is asked for, and breaks the connection. */
function cutAfter(bytes: number, headers: Record<string, string> = {}): Answer {
  return (req, res) => {
    const [start = 0, end = RAW.length - 1] =
      /(\d+)-(\d+)/
        .exec(req.headers.range ?? '')
        ?.slice(1)
        .map(Number) ?? [];
    const range = req.headers.range && { 'content-range': `bytes ${start}-${end}/${RAW.length}` };
    res.writeHead(range ? 206 : 200, { 'content-length': end - start + 1, ...range, ...headers });
    res.write(RAW.subarray(start, Math.min(start + bytes, end + 1)), () => {
      if (start + bytes > end) res.end();
      else req.socket.destroySoon();
    });
  };
}

const serve = (headers: Record<string, string> = {}) => cutAfter(RAW.length, headers);

/** Answers in turn; the last one answers all that follow. */
function listenInTurn(...answers: readonly Answer[]): Promise<Server> {
  let count = 0;
  return listen((req, res) => answers[Math.min(count++, answers.length - 1)]?.(req, res));
}

const ranges = ({ requests }: Server) => requests.map(({ headers }) => headers.range);

test('continues where it was cut, however often, up to five times', async () => {
  const server = await listenInTurn(cutAfter(2));
  const { body, size } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  expect([size, await buffer(body)]).toEqual([10, RAW]);
  expect(ranges(server)).toEqual([undefined, 'bytes=2-9', 'bytes=4-9', 'bytes=6-9', 'bytes=8-9']);
});

test('gives up after five times', async () => {
  const server = await listenInTurn(cutAfter(1));
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  const error = await failure(buffer(body));
  expect(error).toMatchObject({ name: 'RegistryError', status: 502, message: expect.stringContaining('UND_ERR') });
  expect(server.requests).toHaveLength(6);
});

test('continues within the range that was asked for', async () => {
  const server = await listenInTurn(cutAfter(2), serve());
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST, { range: { start: 3, end: 7 } });
  expect(await buffer(body)).toEqual(RAW.subarray(3, 8));
  expect(ranges(server)).toEqual(['bytes=3-7', 'bytes=5-7']);
});

test.each<readonly [string, Answer]>([
  ['refused as no range of it', (_req, res) => res.writeHead(416).end()],
  ['refused as a bad request', (_req, res) => res.writeHead(400).end()],
  ['not known', (_req, res) => res.writeHead(501).end()],
  ['answered from the start', (_req, res) => res.writeHead(206, { 'content-range': 'bytes 0-9/10' }).end(RAW)],
  ['answered without saying what is sent', (_req, res) => res.writeHead(206).end(RAW.subarray(2))],
])('asks for the whole where a Range is %s', async (_name, refuse) => {
  const server = await listenInTurn(cutAfter(2), refuse, serve());
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  expect(await buffer(body)).toEqual(RAW);
  expect(ranges(server)).toEqual([undefined, 'bytes=2-9', undefined]);
});

test('continues only with the same strong ETag', async () => {
  const server = await listenInTurn(cutAfter(4, { etag: ETAG }), serve());
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  expect(await buffer(body)).toEqual(RAW);
  expect(server.requests[1]?.headers['if-range']).toBe(ETAG);
});

test('continues with a fresh token, and from where the upstream now redirects to', async () => {
  const cut = cutAfter(4);
  let valid = 1;
  const server = await listen((req, res) => {
    if (req.url?.startsWith('/token')) return json(res, 200, { token: `t${valid}` });
    if (req.url?.startsWith('/signed')) return (req.url.endsWith('1') ? cut : serve())(req, res);
    if (req.headers.authorization === `Bearer t${valid}`) {
      return res.writeHead(307, { location: `/signed?${valid++}` }).end();
    }
    return json(res, 401, {}, { 'www-authenticate': `Bearer realm="${server.url}/token"` });
  });
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  expect(await buffer(body)).toEqual(RAW);
  expect(server.requests.filter(({ url }) => url?.startsWith('/token'))).toHaveLength(2);
});

const partial = (range: string, body: Buffer): Answer => {
  return (_, res) => res.writeHead(206, { 'content-range': range, 'content-length': body.length }).end(body);
};

test.each<[string, Answer]>([
  ['a whole that is shorter', (_, res) => res.writeHead(200, { 'content-length': 9 }).end(RAW.subarray(1))],
  ['another range', partial('bytes 3-9/10', RAW.subarray(3))],
  ['less than the rest', partial('bytes 4-8/10', RAW.subarray(4, 9))],
  ['a range of another unit', partial('items 4-9/10', RAW.subarray(4))],
  ['no Content-Range', (_, res) => res.writeHead(206).end(RAW.subarray(4))],
  ['a refusal', (_, res) => json(res, 416, {})],
])('fails with the first error where the rest comes as %s', async (_, answer) => {
  const server = await listenInTurn(cutAfter(4), answer);
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  const error = await failure(buffer(body));
  expect(error).toMatchObject({ status: 502, message: expect.stringContaining('connection failed') });
  expect(ranges(server)).toEqual([undefined, 'bytes=4-9', undefined]);
});

const whole: Answer = (_, res) => res.writeHead(200, { 'content-length': 10 }).end(RAW);

test.each<[string, Answer[], number]>([
  ['comes as the whole again', [cutAfter(4), whole], 2],
  ['comes as the whole, of no told length', [cutAfter(4), (_, res) => res.end(RAW)], 2],
  [
    'comes as the whole, which is cut before it gets there, and then as a part',
    [cutAfter(4), cutAfterWhole(2), serve()],
    3,
  ],
  ['comes as the whole, which is cut after it got there, and again', [cutAfter(4), cutAfterWhole(7), whole], 3],
  ['comes as the whole that says a coding', [cutAfter(4), serve({ 'content-encoding': 'gzip' })], 2],
])('skips what it has where the rest %s', async (_, answers, count) => {
  const server = await listenInTurn(...answers);
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  expect(await buffer(body)).toEqual(RAW);
  expect(server.requests).toHaveLength(count);
});

/** Knows no Range, and breaks. */
function cutAfterWhole(bytes: number): Answer {
  return (req, res) => {
    res.writeHead(200, { 'content-length': RAW.length });
    res.write(RAW.subarray(0, bytes), () => req.socket.destroySoon());
  };
}

test('takes the part that was asked for out of the whole', async () => {
  const server = await listen(whole);
  const { body, size } = await openUpstream({ url: server.url }).openBlob('a', DIGEST, { range: { start: 2, end: 4 } });
  expect([size, await text(body)]).toEqual([3, '234']);
});

test('does not go on with a layer address whose whole has become another', async () => {
  const changed: Answer = (_, res) => res.writeHead(200, { etag: '"v2"', 'content-length': 10 }).end('abcdefghij');
  const server = await listenInTurn(cutAfter(4, { etag: ETAG }), changed);
  const { body } = await open({}, { allowPrivateUrls: true }).openUrl(new URL(server.url));
  expect(await failure(buffer(body))).toMatchObject({ status: 502 });
});

test('does not go on where it does not know how much there is', async () => {
  const server = await listen((req, res) => {
    res.write('0123', () => req.socket.destroySoon());
  });
  const { body, size } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  expect(size).toBeUndefined();
  expect(await failure(buffer(body))).toMatchObject({ status: 502 });
  expect(server.requests).toHaveLength(1);
});

test.each([
  [ETAG, 2],
  ['W/"v1"', 1],
  [undefined, 1],
])('reads a layer address on from ETag %s in %i requests', async (etag, count) => {
  const server = await listenInTurn(cutAfter(4, etag ? { etag } : {}), serve());
  const { body } = await open({}, { allowPrivateUrls: true }).openUrl(new URL(server.url));
  if (count > 1) expect(await buffer(body)).toEqual(RAW);
  else expect(await failure(buffer(body))).toMatchObject({ status: 502 });
  expect(server.requests).toHaveLength(count);
});

test.each([
  ['a range in place of the whole', partial('bytes 0-9/10', RAW), undefined],
  ['a whole that ends before the range', (_: unknown, res: ServerResponse) => res.end(RAW), { start: 2, end: 10 }],
  ['another range than asked for', partial('bytes 2-5/10', RAW.subarray(2, 6)), { start: 2, end: 4 }],
])('refuses %s', async (_, answer, range) => {
  const server = await listen(answer);
  const work = openUpstream({ url: server.url }).openBlob('a', DIGEST, range ? { range } : {});
  expect(await failure(work)).toMatchObject({ status: 502 });
});

const CODINGS = ['gzip', 'x-gzip', 'br', 'aws-chunked', 'x-unknown', '', ',', ' identity', 'Identity, ,identity'];

test.each(CODINGS)('reads bytes that have their digest as they are, with content-encoding %j', async coding => {
  const raw = Buffer.from('{"schemaVersion":2}');
  const server = await listen((_, res) => res.writeHead(200, { 'content-encoding': coding }).end(raw));
  const upstream = openUpstream({ url: server.url });
  const { body } = await upstream.openBlob('a', digestOf(raw));
  expect(await buffer(body)).toEqual(raw);
  for (const reference of [digestOf(raw), 'tag']) {
    expect(Buffer.from((await upstream.getManifest('a', reference)).raw)).toEqual(raw);
  }
  const sent = new Set(server.requests.map(({ headers }) => headers['accept-encoding']));
  expect([...sent]).toEqual(['identity']);
});

const PACKERS: Readonly<Record<string, (raw: Uint8Array) => Buffer>> = {
  gzip: gzipSync,
  'X-GZIP': gzipSync,
  br: brotliCompressSync,
  zstd: zstdCompressSync,
  deflate: deflateSync,
};

test.each(Object.entries(PACKERS))('names the content-encoding of what is encoded: %s', async (coding, pack) => {
  const raw = Buffer.from('{"schemaVersion":2}');
  const server = await listen((_, res) => res.writeHead(200, { 'content-encoding': coding }).end(pack(raw)));
  const upstream = openUpstream({ url: server.url });
  const message: unknown = expect.stringContaining(`encoded (content-encoding: ${coding.toLowerCase()})`);
  const works = [
    upstream.openBlob('a', digestOf(raw)),
    upstream.getManifest('a', digestOf(raw)),
    upstream.getManifest('a', 'tag'),
    open({}, { allowPrivateUrls: true }).openUrl(new URL(server.url), { digest: digestOf(raw) }),
  ];
  for (const error of await Promise.all(works.map(failure))) expect(error).toMatchObject({ status: 502, message });
});

test('passes a large body on that says a coding, and breaks at its end where that was true', async () => {
  const raw = randomBytes(3_000_000);
  let sent: Buffer = raw;
  const server = await listen((_, res) => res.writeHead(200, { 'content-encoding': 'gzip' }).end(sent));
  const upstream = openUpstream({ url: server.url });
  expect((await buffer((await upstream.openBlob('a', digestOf(raw))).body)).equals(raw)).toBe(true);
  sent = gzipSync(raw);
  const { body } = await upstream.openBlob('a', digestOf(raw));
  const message: unknown = expect.stringContaining('encoded (content-encoding: gzip)');
  expect(await failure(buffer(body))).toMatchObject({ status: 502, message });
});

const timeouts = { ...PATIENT, headersMs: 200, bodyMs: 200 };

test.each<[string, Answer]>([
  ['before the headers', () => {}],
  ['within the body', (_, res) => res.writeHead(200, { 'content-length': 10 }).write('0123')],
])('says 504 for an upstream that hangs %s', async (_, answer) => {
  const server = await listen(answer);
  const upstream = openUpstream({ url: server.url }, { timeouts });
  expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ status: 504 });
  const blob = upstream.openBlob('a', DIGEST).then(({ body }) => buffer(body));
  expect(await failure(blob)).toMatchObject({ name: 'RegistryError', status: 504 });
  // A request may reach a busy server when its time is over.
  await expect.poll(() => server.requests).toHaveLength(2);
});

/** A byte now and then, for ever: never silent for as long as it may be. */
const drip =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (_, res) => {
    res.writeHead(status, headers);
    const timer = setInterval(() => res.write(' '), 20);
    res.on('close', () => clearInterval(timer));
  };

const dripping = { ...IMPATIENT, headersMs: PATIENT.headersMs, documentMs: 300 };

test.each<[string, Answer, number]>([
  ['a manifest', drip(200), 504],
  ['an error', drip(404), 404],
  ['a redirect', drip(307, { location: '/elsewhere' }), 502],
])('gives up %s that comes in drips', async (_, answer, status) => {
  const server = await listen(answer);
  const upstream = openUpstream({ url: server.url }, { timeouts: dripping });
  expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ status });
  expect(await failure(upstream.listTags('a', {}))).toMatchObject({ status });
});

test('gives up a token that comes in drips', async () => {
  const realm = await listen(drip(200));
  const challenge = { 'www-authenticate': `Bearer realm="${realm.url}/token",service="x"` };
  const server = await listen((_, res) => json(res, 401, {}, challenge));
  const upstream = openUpstream({ url: server.url }, { timeouts: dripping });
  expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ status: 504 });
});

test('gives up headers that come in drips', async () => {
  const server = await listen((_, res) => {
    res.socket?.write('HTTP/1.1 200 OK\r\n');
    const timer = setInterval(() => res.socket?.write('X-a: b\r\n'), 20);
    res.socket?.on('close', () => clearInterval(timer));
  });
  const upstream = openUpstream({ url: server.url }, { timeouts: IMPATIENT });
  expect(await failure(upstream.getManifest('a', 'b'))).toMatchObject({ status: 504 });
});

test('gives up a blob that comes in drips, but none that is only slow', async () => {
  const content = Buffer.alloc(8 * 1024, 'x');
  const slow: Answer = async (_, res) => {
    res.writeHead(200, { 'content-length': content.byteLength });
    for (let at = 0; at < content.byteLength; at += 256) {
      await new Promise(resolve => setTimeout(resolve, 40));
      res.write(content.subarray(at, at + 256));
    }
    res.end();
  };
  const timely = openUpstream({ url: (await listen(slow)).url }, { timeouts: { ...dripping, bodyMs: 60_000 } });
  expect(await buffer((await timely.openBlob('a', digestOf(content))).body)).toEqual(content);
  const upstream = openUpstream(
    { url: (await listen(drip(200, { 'content-length': '5000' }))).url },
    { timeouts: dripping },
  );
  const { body } = await upstream.openBlob('a', DIGEST);
  expect(await failure(buffer(body))).toMatchObject({ status: 504 });
});

test('fails with the reason of a caller who leaves', async () => {
  const leave = new AbortController();
  const server = await listen((_, res) => res.writeHead(200, { 'content-length': 10 }).write('0123'));
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST, { signal: leave.signal });
  const reader = body.getReader();
  expect(Buffer.from((await reader.read()).value ?? []).toString()).toBe('0123');
  leave.abort(new Error('gone'));
  await expect(reader.read()).rejects.toThrow('gone');
  expect(server.requests).toHaveLength(1);
});

test.each([
  ['before the first byte', false],
  ['while it waits for more', true],
])('ends the transfer when the reader cancels %s', async (_, isReading) => {
  const ended = Promise.withResolvers<void>();
  const server = await listen((_, res) => {
    res.on('close', ended.resolve).writeHead(200, { 'content-length': 10 }).write('0123');
  });
  const { body } = await openUpstream({ url: server.url }).openBlob('a', DIGEST);
  const reader = body.getReader();
  if (isReading) await reader.read();
  const pending = isReading ? reader.read() : undefined;
  await reader.cancel();
  await Promise.all([ended.promise, pending]);
  expect(server.requests).toHaveLength(1);
});

test('knows the size of a blob and of a range', async () => {
  const server = await listen(serve());
  const upstream = openUpstream({ url: server.url });
  expect(await upstream.headBlob('a', DIGEST)).toEqual({ size: 10 });
  const part = await upstream.openBlob('a', DIGEST, { range: { start: 2, end: 4 } });
  expect([part.size, await text(part.body)]).toEqual([3, '234']);
});
