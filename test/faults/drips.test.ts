// An upstream that drips, a byte now and then for ever, and clients who leave: what is so slow is given up, its place is given back, and nothing
// of it stays behind. Over real sockets on both sides.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { startServer, type TestServer } from '../support/server.ts';

const MANIFEST = JSON.stringify({
  schemaVersion: 2,
  mediaType: 'application/vnd.oci.image.index.v1+json',
  manifests: [],
});
const SIZE = 100 * 1024 * 1024;
/** How long an upstream may be too slow, here. */
const PATIENCE_MS = 3000;

let upstream: Server;
let veneer: TestServer;
/** How many bodies drip now, and how many have. */
let open: number;
let begun: number;
let replies: Map<string, (response: ServerResponse) => void>;

function drip(response: ServerResponse, bytes = 1): void {
  open += 1;
  begun += 1;
  const timer = setInterval(() => response.write(randomBytes(bytes)), 50);
  response.on('close', () => {
    open -= 1;
    clearInterval(timer);
  });
}

/** Blobs drip; all else is there at once, but for what a test says otherwise. */
function answer({ url = '' }: IncomingMessage, response: ServerResponse): void {
  const reply = [...replies].find(([part]) => url.includes(part))?.[1];
  if (reply) reply(response);
  else if (url.includes('/blobs/')) {
    response.writeHead(200, { 'Content-Length': SIZE });
    drip(response);
  } else {
    response.writeHead(200, { 'Content-Type': 'application/vnd.oci.image.index.v1+json' }).end(MANIFEST);
  }
}

beforeEach(async () => {
  [open, begun] = [0, 0];
  replies = new Map();
  upstream = createServer(answer).listen(0, '127.0.0.1');
  await once(upstream, 'listening');
});

afterEach(async () => {
  await veneer.close();
  upstream.closeAllConnections();
  upstream.close();
});

const upstreamUrl = () => `http://127.0.0.1:${Object(upstream.address()).port}`;

async function start(entry: object, settings: object = {}, patienceMs = PATIENCE_MS): Promise<void> {
  const timeouts = { connectMs: 5000, headersMs: 5000, bodyMs: patienceMs, documentMs: patienceMs };
  const config = { upstreams: { lab: { url: upstreamUrl(), ...entry } }, ...settings };
  veneer = await startServer(config, { retries: 0, timeouts });
}

const get = (path: string, signal?: AbortSignal) =>
  fetch(`http://127.0.0.1:${veneer.port}/v2/lab/${path}`, { ...(signal && { signal }) });

const blob = (seed: string) => `app/blobs/${digestOf(Buffer.from(seed))}`;

const arriving = async () => (await readdir(join(veneer.directory, 'data/content/ingest'))).length;

test('blobs that drip hold up no manifest, their clients are let go, and their places are given back', async () => {
  await start({ concurrency: 2 });
  const first = await get(blob('a'));
  const second = get(blob('b'));
  await expect.poll(() => open).toBe(1);
  // Beside them, and before either is given up.
  let isGivenUp = false;
  const body = first.bytes().finally(() => {
    isGivenUp = true;
  });
  body.catch(() => {});
  expect(await (await get('app/manifests/1')).text()).toBe(MANIFEST);
  expect(isGivenUp).toBe(false);
  await expect(body).rejects.toThrow();
  await expect((await second).bytes()).rejects.toThrow();
  expect(begun).toBe(2);
  await expect.poll(() => open).toBe(0);
  const right = Buffer.from('a blob that comes');
  replies.set(digestOf(right), response => response.end(right));
  expect(Buffer.from(await (await get(`app/blobs/${digestOf(right)}`)).bytes())).toEqual(right);
  await expect.poll(arriving).toBe(0);
});

test('how slow a blob may be is for the operator to say', async () => {
  const slow = digestOf(Buffer.from('slow'));
  replies.set(slow, response => {
    response.writeHead(200, { 'Content-Length': SIZE });
    drip(response, 5000);
  });
  await start({});
  const leaving = new AbortController();
  const response = await get(`app/blobs/${slow}`, leaving.signal);
  const reader = response.body?.getReader();
  const since = performance.now();
  while (performance.now() - since < PATIENCE_MS * 2) expect((await reader?.read())?.done).toBe(false);
  leaving.abort();
  await veneer.close();
  await start({}, { limits: { upstreamRate: '1MiB' } });
  await expect((await get(`app/blobs/${slow}`)).bytes()).rejects.toThrow();
});

test('a token server that drips is given up, and its client and its place are let go', async () => {
  await start({ concurrency: 1 });
  const challenge = { 'WWW-Authenticate': `Bearer realm="${upstreamUrl()}/token",service="x"` };
  replies.set('/v2/locked/', response => response.writeHead(401, challenge).end());
  replies.set('/token', response => {
    response.writeHead(200, { 'Content-Type': 'application/json' });
    drip(response);
  });
  const locked = await Promise.all([get('locked/manifests/1'), get(`locked/blobs/${digestOf(Buffer.of())}`)]);
  expect(locked.map(({ status }) => status)).toEqual([504, 504]);
  expect(await (await get('app/manifests/1')).text()).toBe(MANIFEST);
  await expect.poll(() => open).toBe(0);
});

test('of a hundred clients who leave blobs that drip, nothing is left behind', async () => {
  await start({}, {}, 60_000);
  // Small, and still never to be there.
  replies.set('/blobs/', response => {
    response.writeHead(200, { 'Content-Length': 100_000 });
    drip(response);
  });
  const leaving = new AbortController();
  const responses = await Promise.all(Array.from({ length: 100 }, (_, at) => get(blob(`${at}`), leaving.signal)));
  for (const response of responses)
    void response.body
      ?.getReader()
      .read()
      .catch(() => {});
  await expect.poll(() => open).toBe(100);
  await expect.poll(arriving).toBe(100);
  leaving.abort();
  await expect.poll(() => open, { timeout: 25_000 }).toBe(0);
  await expect.poll(arriving).toBe(0);
});

test('who leaves before the upstream is asked leaves no transfer, and who leaves the line gives way', async () => {
  await start({ concurrency: 1 });
  const first = await get(blob('first'));
  const leaving = new AbortController();
  const line = Array.from({ length: 20 }, (_, at) => get(blob(`${at}`), leaving.signal).catch(() => undefined));
  const last = get('app/manifests/1');
  await new Promise(resolve => setTimeout(resolve, 300));
  leaving.abort();
  await Promise.all(line);
  await expect(first.bytes()).rejects.toThrow();
  expect(await (await last).text()).toBe(MANIFEST);
  expect(begun).toBe(1);
});

test.each([
  ['with half of it there it is finished and kept', 0.6, true],
  ['with less it ends, and nothing of it stays', 0.3, false],
])('of a transfer that its client leaves: %s', async (_, part, isKept) => {
  const content = randomBytes(8 * 1024 * 1024);
  const digest = digestOf(content);
  await start({}, { cache: { abandoned: '30s', finish: { part: 0.5, rest: '1KiB' } } });
  const go = Promise.withResolvers<void>();
  let isCut = false;
  replies.set(digest, async response => {
    response.on('close', () => {
      isCut = !response.writableFinished;
    });
    response.writeHead(200, { 'Content-Length': content.byteLength });
    response.write(content.subarray(0, Math.floor(content.byteLength * part)));
    // Never silent, and never as slow as what is given up.
    let at = Math.floor(content.byteLength * part);
    const timer = setInterval(() => {
      response.write(content.subarray(at, at + 2048));
      at += 2048;
    }, 500);
    await go.promise;
    clearInterval(timer);
    response.end(content.subarray(at));
  });
  const reader = (await get(`app/blobs/${digest}`)).body?.getReader();
  await reader?.read();
  await reader?.cancel();
  // Longer than anybody is waited for.
  if (isKept) await new Promise(resolve => setTimeout(resolve, 11_000));
  else await expect.poll(() => isCut, { timeout: 15_000 }).toBe(true);
  go.resolve();
  await expect.poll(arriving).toBe(0);
  expect(isCut).toBe(!isKept);
  const file = join(veneer.directory, 'data/content/blobs/sha256', digest.slice(7, 9));
  await expect.poll(async () => (await readdir(file).catch(() => [])).length).toBe(isKept ? 1 : 0);
});
