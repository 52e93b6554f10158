// What goes over the wire of a push, to registries that behave as some do: where uploads go on, what is sent again, and what is reported.
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { ContentMismatch } from '../../src/oci/verify.ts';
import { PATIENT } from '../support/patience.ts';
import { everythingOf, failure, json, listen, lookupAt, openPusher, pushed, type Server } from './server.ts';

const raw = Buffer.from('the bytes of a layer');
const digest = digestOf(raw);

type Put = (req: IncomingMessage, res: ServerResponse, body: Buffer) => unknown;

const created: Put = (_, res) => res.writeHead(201).end();

/** Answers a POST with a place to go on at, and what is sent there as `put` says. */
function listenForUploads(location: string, put: Put): Promise<Server> {
  return listen(async (req, res) => {
    if (req.method === 'POST') return res.writeHead(202, { location }).end();
    return put(req, res, await buffer(req).catch(() => Buffer.of()));
  });
}

const linesOf = ({ requests }: Server) => requests.map(({ method, url }) => `${method} ${url}`);

describe('an upload continues', () => {
  test.each([
    ['at a path', '/up/1', '/up/1?digest='],
    ['beside where it began', 'session-1', '/v2/a/blobs/uploads/session-1?digest='],
    ['with a query that nothing changes', '/up/1?_state=a+b%2Bc==&x', '/up/1?_state=a+b%2Bc==&x&digest='],
  ])('%s', async (_, location, expected) => {
    const bodies: string[] = [];
    const server = await listenForUploads(location, (_, res, body) => {
      bodies.push(`${body}`);
      res.writeHead(201).end();
    });
    await openPusher({ url: server.url }).putBlob('a', pushed(raw));
    expect(linesOf(server)).toEqual(['POST /v2/a/blobs/uploads/', `PUT ${expected}${encodeURIComponent(digest)}`]);
    expect(server.requests[1]?.headers).toMatchObject({
      'content-length': `${raw.byteLength}`,
      'content-type': 'application/octet-stream',
    });
    expect(bodies).toEqual([`${raw}`]);
  });

  test('at the same host where that is named whole', async () => {
    const server: Server = await listen(async (req, res) => {
      if (req.method === 'POST') return res.writeHead(202, { location: `${server.url}/up` }).end();
      return created(req, res, await buffer(req));
    });
    await openPusher({ url: server.url }).putBlob('a', pushed(raw));
    expect(server.requests).toHaveLength(2);
  });

  test.each([
    ['another host', 'http://127.0.0.1:1/up?sig=canary'],
    ['no http', 'file:///etc/passwd'],
    ['nothing', ''],
  ])('never at %s, and no byte is sent', async (_, location) => {
    const server = await listen((_, res) => res.writeHead(202, location ? { location } : {}).end());
    let opened = 0;
    const open = async () => {
      opened++;
      return ReadableStream.from([raw]);
    };
    const error = await failure(openPusher({ url: server.url }).putBlob('a', { ...pushed(raw), open }));
    expect(error).toMatchObject({ name: 'RegistryError', status: 502 });
    expect(everythingOf(error)).not.toContain('canary');
    expect([server.requests.length, opened]).toEqual([1, 0]);
  });

  test('at a host of redirectHosts, which gets no credentials', async () => {
    const other = await listenForUploads('', created);
    const location = `http://me:pass@blobs.test:${other.port}/up`;
    const server = await listen((req, res) => {
      if (req.headers.authorization) res.writeHead(202, { location }).end();
      else json(res, 401, {}, { 'www-authenticate': 'Basic' });
    });
    const pusher = openPusher(
      {
        url: server.url,
        credentials: { username: 'me', password: 'canary' },
        redirectHosts: [`blobs.test:${other.port}`],
      },
      { lookup: lookupAt('127.0.0.1') },
    );
    await pusher.putBlob('a', pushed(raw));
    expect(other.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });
});

describe('an upload', () => {
  test.each([
    ['a broken connection', (req: IncomingMessage) => req.socket.destroy()],
    ['status 503', (_: IncomingMessage, res: ServerResponse) => json(res, 503, {})],
  ])('begins again after %s, with a session and a body of its own', async (_, fail) => {
    let puts = 0;
    const server = await listenForUploads('/up', (req, res, body) =>
      puts++ === 0 ? fail(req, res) : res.writeHead(body.equals(raw) ? 201 : 400).end(),
    );
    let opened = 0;
    const open = async () => {
      opened++;
      return ReadableStream.from([raw]);
    };
    await openPusher({ url: server.url }, { retries: 1 }).putBlob('a', { ...pushed(raw), open });
    expect(linesOf(server).map(line => line.slice(0, 4))).toEqual(['POST', 'PUT ', 'POST', 'PUT ']);
    expect(opened).toBe(2);
  });

  test('is not sent again where the source of its bytes fails', async () => {
    const server = await listenForUploads('/up', created);
    let opened = 0;
    const open = async () => {
      opened++;
      return ReadableStream.from(
        (async function* () {
          yield raw.subarray(0, 3);
          await turn();
          throw new ContentMismatch('these are others');
        })(),
      );
    };
    const error = await failure(openPusher({ url: server.url }, { retries: 3 }).putBlob('a', { ...pushed(raw), open }));
    expect(error).toMatchObject({ name: 'RegistryError', status: 502 });
    expect(opened).toBe(1);
  });

  test('that is refused before its end lets go of the source', async () => {
    const server = await listen((req, res) =>
      req.method === 'POST' ? res.writeHead(202, { location: '/up' }).end() : json(res, 403, {}),
    );
    const cancelled = Promise.withResolvers<void>();
    const open = async () =>
      new ReadableStream<Uint8Array>({
        pull: controller => controller.enqueue(new Uint8Array(65_536)),
        cancel: () => cancelled.resolve(),
      });
    const error = await failure(openPusher({ url: server.url }).putBlob('a', { digest, size: 2 ** 30, open }));
    expect(error).toMatchObject({ code: 'DENIED', status: 403 });
    await cancelled.promise;
  });

  test('ends with the reason of its signal, and lets go of the source', async () => {
    const stop = new AbortController();
    const server = await listen((req, res) => {
      if (req.method === 'POST') res.writeHead(202, { location: '/up' }).end();
      else req.once('data', () => stop.abort(new Error('enough')));
    });
    const cancelled = Promise.withResolvers<void>();
    const open = async () =>
      new ReadableStream<Uint8Array>({
        pull: controller => controller.enqueue(new Uint8Array(65_536)),
        cancel: () => cancelled.resolve(),
      });
    const pusher = openPusher({ url: server.url }, { retries: 3 });
    const work = pusher.putBlob('a', { digest, size: 2 ** 30, open }, { signal: stop.signal });
    expect(await failure(work)).toMatchObject({ message: 'enough' });
    await cancelled.promise;
    expect(server.requests).toHaveLength(2);
  });

  test('says 504 of a registry that never answers it', async () => {
    const server = await listen((req, res) => {
      if (req.method === 'POST') res.writeHead(202, { location: '/up' }).end();
      else req.resume();
    });
    const pusher = openPusher({ url: server.url }, { timeouts: { ...PATIENT, headersMs: 250 } });
    expect(await failure(pusher.putBlob('a', pushed(raw)))).toMatchObject({ status: 504 });
  });

  test.each([405, 413])('goes in chunks to a registry that answers %i to one piece', async status => {
    const big = Buffer.alloc(20_000_000, 'chunk');
    const hash = createHash('sha256');
    const ranges: unknown[] = [];
    const server = await listenForUploads('/up/0', (req, res, body) => {
      if (req.method === 'PUT' && body.byteLength > 0) return json(res, status, {});
      if (req.method === 'PUT') return created(req, res, body);
      hash.update(body);
      ranges.push(req.headers['content-range']);
      return res.writeHead(202, { location: `/up/${ranges.length}` }).end();
    });
    await openPusher({ url: server.url }).putBlob('a', pushed(big));
    expect(ranges).toEqual(['0-8388607', '8388608-16777215', '16777216-19999999']);
    expect(`sha256:${hash.digest('hex')}`).toBe(digestOf(big));
    expect(linesOf(server).slice(2)).toEqual([
      'POST /v2/a/blobs/uploads/',
      'PATCH /up/0',
      'PATCH /up/1',
      'PATCH /up/2',
      `PUT /up/3?digest=${encodeURIComponent(digestOf(big))}`,
    ]);
  });
});
