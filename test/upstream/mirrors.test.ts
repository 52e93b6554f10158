// Several places of one registry: mirrors are asked first, in order, none learns another's credentials, and none can spoil a pull.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import type { UpstreamEntry } from '../../src/upstream/registry/registry-client.ts';
import type { UpstreamsOptions } from '../../src/upstream/upstreams.ts';
import { IMPATIENT } from '../support/patience.ts';
import { createTestClock, failure, json, listen, openUpstream } from './server.ts';

type Answer = (req: IncomingMessage, res: ServerResponse) => unknown;

const RAW = Buffer.from('0123456789');
const DIGEST = digestOf(RAW);
const serve: Answer = (_, res) => res.end(RAW);
const missing: Answer = (_, res) => json(res, 404, {});

/** A range where one is asked for. */
const serveParts: Answer = ({ headers }, res) => {
  const start = Number(/bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
  const rest = RAW.subarray(start);
  const range = { 'content-range': `bytes ${start}-9/10`, 'content-length': rest.length };
  res.writeHead(headers.range ? 206 : 200, headers.range ? range : { 'content-length': 10 }).end(rest);
};

async function startPlaces(mirror: Answer, own: Answer, more: Partial<UpstreamsOptions & UpstreamEntry> = {}) {
  const [first, last] = [await listen(mirror), await listen(own)];
  const { breaker, ...options } = more;
  const upstream = openUpstream({ url: last.url, mirrors: [{ url: first.url }], breaker }, options);
  return { first, last, upstream };
}

test('a mirror is asked first, and where it has the content nobody else is', async () => {
  const { last, upstream } = await startPlaces(serve, missing);
  expect((await upstream.getManifest('a', DIGEST)).digest).toBe(DIGEST);
  expect(await buffer((await upstream.openBlob('a', DIGEST)).body)).toEqual(RAW);
  expect(last.requests).toEqual([]);
});

test('mirrors are asked in their order, the registry itself last', async () => {
  const servers = [await listen(missing), await listen(missing), await listen(serve)];
  const [one, two, own] = servers.map(({ url }) => ({ url }));
  if (!one || !two || !own) throw new Error('three servers');
  const order: number[] = [];
  const upstream = openUpstream({ ...own, mirrors: [one, two] });
  await upstream.getManifest('a', DIGEST);
  for (const [at, { requests }] of servers.entries()) if (requests.length > 0) order.push(at);
  expect(order).toEqual([0, 1, 2]);
});

test.each<[string, Answer]>([
  ['does not have it', missing],
  ['limits us', (_, res) => json(res, 429, {}, { 'retry-after': '60' })],
  ['fails', (_, res) => json(res, 500, {})],
  ['wants credentials', (_, res) => json(res, 401, {})],
  ['refuses us', (_, res) => json(res, 403, {})],
  ['breaks the connection', (_, res) => res.destroy()],
  ['hangs', () => undefined],
  ['lies', (_, res) => res.end('something else')],
  ['sends us away', (_, res) => res.writeHead(302, { location: 'file:///x' }).end()],
])('what a mirror cannot give comes from the registry itself: it %s', async (_, answer) => {
  const { upstream, last } = await startPlaces(answer, serve, { timeouts: IMPATIENT });
  expect(Buffer.from((await upstream.getManifest('a', DIGEST)).raw)).toEqual(RAW);
  expect(last.requests).toHaveLength(1);
});

test.each<[string, Answer]>([
  ['a page of a portal', (_, res) => res.writeHead(200, { 'content-type': 'text/html' }).end('<html>')],
  ['JSON of its own', (_, res) => json(res, 200, {})],
  ['nothing', (_, res) => res.writeHead(200, { 'content-type': mediaTypes.ociIndex }).end()],
])('a mirror that has %s for every tag is passed over', async (_, answer) => {
  const raw = Buffer.from('{"schemaVersion":2,"manifests":[]}');
  const headers = { 'content-type': mediaTypes.ociIndex, 'docker-content-digest': digestOf(raw) };
  const { upstream } = await startPlaces(answer, (_, res) => res.writeHead(200, headers).end(raw));
  expect(Buffer.from((await upstream.getManifest('a', 'latest')).raw)).toEqual(raw);
  expect((await upstream.headManifest('a', 'latest')).contentType).toBe(mediaTypes.ociIndex);
});

test('the error is that of the registry itself', async () => {
  const { upstream } = await startPlaces((_, res) => json(res, 500, {}), missing);
  expect(await failure(upstream.getManifest('a', DIGEST))).toMatchObject({ status: 404, message: /^lab: / });
});

test('a blob that a mirror breaks off continues from the next place', async () => {
  const cut: Answer = (req, res) => {
    if (req.headers.range) return res.destroy();
    res.writeHead(200, { 'content-length': 10 }).write('0123');
    return setTimeout(() => res.destroy(), 20);
  };
  const { upstream, last } = await startPlaces(cut, serveParts);
  expect(await buffer((await upstream.openBlob('a', DIGEST)).body)).toEqual(RAW);
  expect(last.requests.map(({ headers }) => headers.range)).toEqual(['bytes=4-9']);
});

test('a body that the next place begins after the reader has left is closed', async () => {
  const cut: Answer = (req, res) => {
    if (req.headers.range) return res.destroy();
    return res.writeHead(200, { 'content-length': 10 }).write('0123', () => res.destroy());
  };
  const asked = Promise.withResolvers<ServerResponse>();
  let isLeft = false;
  const { upstream } = await startPlaces(cut, (_, res) => {
    res.once('close', () => {
      isLeft = true;
    });
    asked.resolve(res);
  });
  const reader = (await upstream.openBlob('a', DIGEST)).body.getReader();
  await reader.read();
  const reading = reader.read();
  const response = await asked.promise;
  await reader.cancel();
  response.writeHead(206, { 'content-range': 'bytes 4-9/10', 'content-length': 6 }).write('45');
  await expect.poll(() => isLeft).toBe(true);
  expect((await reading).done).toBe(true);
});

test('a mirror that lies about a blob breaks that transfer alone: it is not asked for the blob again', async () => {
  const { upstream, first } = await startPlaces((_, res) => res.end('9876543210'), serveParts);
  const { body } = await upstream.openBlob('a', DIGEST);
  expect(await failure(buffer(body))).toMatchObject({ status: 502 });
  expect(await buffer((await upstream.openBlob('a', DIGEST)).body)).toEqual(RAW);
  expect(first.requests).toHaveLength(1);
});

test('a mirror whose breaker is open is passed over', async () => {
  const clock = createTestClock();
  const broken: Answer = (_, res) => json(res, 500, {});
  const { upstream, first, last } = await startPlaces(broken, serve, {
    clock,
    breaker: { failures: 2, pauseMs: 10_000 },
  });
  for (let at = 0; at < 4; at++) await upstream.getManifest('a', DIGEST);
  expect([first.requests.length, last.requests.length]).toEqual([2, 4]);
  clock.pass(10_000);
  await upstream.getManifest('a', DIGEST);
  expect(first.requests).toHaveLength(3);
});

test('credentials go to their own place alone', async () => {
  const wantsBasic: Answer = (req, res) =>
    req.headers.authorization ? missing(req, res) : json(res, 401, {}, { 'www-authenticate': 'Basic realm="x"' });
  const servers = [await listen(wantsBasic), await listen(wantsBasic), await listen(wantsBasic)];
  const [one, two, own] = servers.map(({ url }) => url);
  if (!one || !two || !own) throw new Error('three servers');
  const upstream = openUpstream({
    url: own,
    credentials: { username: 'own', password: 'p' },
    mirrors: [{ url: one, credentials: { username: 'one', password: 'p' } }, { url: two }],
  });
  await failure(upstream.getManifest('a', DIGEST));
  const users = servers.map(({ requests }) =>
    requests.flatMap(({ headers: { authorization } }) =>
      authorization ? [Buffer.from(authorization.slice('Basic '.length), 'base64').toString()] : [],
    ),
  );
  expect(users).toEqual([['one:p'], [], ['own:p']]);
});
