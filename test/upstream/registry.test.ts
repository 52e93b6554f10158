// What a registry answers, and what that becomes for the rooms above.
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { MAX_MANIFEST_BYTES } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { json, listen, open } from './server.ts';

const RAW = Buffer.from('{"schemaVersion":2}');
const DIGEST = digestOf(RAW);

test('reads a manifest by tag with the digest of its bytes and identity encoding', async () => {
  const server = await listen((_, res) => res.writeHead(200, { 'content-type': mediaTypes.ociManifest }).end(RAW));
  const manifest = await open({ lab: { url: server.url } })
    .get('LAB')
    .getManifest('a/b', 'latest');
  expect(Buffer.from(manifest.raw)).toEqual(RAW);
  expect(manifest).toMatchObject({ digest: DIGEST, contentType: mediaTypes.ociManifest });
  expect(server.requests[0]?.url).toBe('/v2/a/b/manifests/latest');
  expect(server.requests[0]?.headers['accept-encoding']).toBe('identity');
});

test.each([
  ['the digest asked for', digestOf(Buffer.from('other')), {}],
  ['the digest that the upstream names', 'latest', { 'docker-content-digest': digestOf(Buffer.from('other')) }],
])('refuses bytes that have not %s', async (_, reference, headers) => {
  const server = await listen((_, res) => res.writeHead(200, headers).end(RAW));
  const work = open({ lab: { url: server.url } })
    .get('lab')
    .getManifest('a', reference);
  await expect(work).rejects.toMatchObject({ name: 'RegistryError', status: 502 });
});

test('refuses a manifest beyond the limit', async () => {
  const server = await listen((_, res) => res.end(Buffer.alloc(MAX_MANIFEST_BYTES + 1)));
  const work = open({ lab: { url: server.url } })
    .get('lab')
    .getManifest('a', 'b');
  await expect(work).rejects.toMatchObject({ status: 502, message: expect.stringContaining('more than') });
});

test('says the digest and type of a manifest from its head alone', async () => {
  const headers = { 'docker-content-digest': DIGEST, 'content-type': `${mediaTypes.ociIndex}; charset=utf-8` };
  const server = await listen((_, res) => res.writeHead(200, headers).end());
  const head = await open({ lab: { url: server.url } })
    .get('lab')
    .headManifest('a', 'b');
  expect(head).toEqual({ digest: DIGEST, contentType: mediaTypes.ociIndex });
  expect(server.requests[0]?.method).toBe('HEAD');
});

const own = (code: string) => ({ errors: [{ code, message: 'canary-secret' }] });

test.each([
  ['its own code and status', 400, own('NAME_INVALID'), { code: 'NAME_INVALID', status: 400 }],
  ['MANIFEST_UNKNOWN for a 404 without a code', 404, {}, { code: 'MANIFEST_UNKNOWN', status: 404 }],
  ['NAME_UNKNOWN where it says so', 404, own('NAME_UNKNOWN'), { code: 'NAME_UNKNOWN', status: 404 }],
  ['UNAUTHORIZED for a 401 without a challenge', 401, {}, { code: 'UNAUTHORIZED', status: 401 }],
  ['DENIED for a 403', 403, {}, { code: 'DENIED', status: 403 }],
  ['TOOMANYREQUESTS with its wait', 429, {}, { code: 'TOOMANYREQUESTS', status: 429, retryAfterSeconds: 77 }],
  ['UNKNOWN and 502 for a 503', 503, own('DENIED'), { code: 'UNKNOWN', status: 502 }],
  ['no code from a body too long', 404, [own('x'), 'x'.repeat(70_000)], { code: 'MANIFEST_UNKNOWN' }],
])('gives %s', async (_, status, body, expected) => {
  const server = await listen((_, res) => json(res, status, body, { 'retry-after': '77' }));
  const error = await failure(
    open({ lab: { url: server.url } })
      .get('lab')
      .getManifest('a', 'b'),
  );
  expect(error).toMatchObject({ name: 'RegistryError', ...expected });
  expect(error.message).not.toContain('canary');
});

test('gives 502 for a refused connection and 504 for silence', async () => {
  const server = await listen(() => {});
  const timeouts = { connectMs: 500, headersMs: 50, bodyMs: 50 };
  const upstreams = open({ silent: { url: server.url }, absent: { url: 'http://127.0.0.1:1' } }, { timeouts });
  const refused = { status: 502, message: expect.stringContaining('ECONNREFUSED') };
  await expect(upstreams.get('absent').getManifest('a', 'b')).rejects.toMatchObject(refused);
  await expect(upstreams.get('silent').getManifest('a', 'b')).rejects.toMatchObject({ status: 504 });
});

test.each([429, 503, 'cut'])('reads again after %s', async fault => {
  const server = await listen((req, res) => {
    if (server.requests.length > 1) res.end(RAW);
    else if (typeof fault === 'number') json(res, fault, {}, { 'retry-after': '0' });
    else req.destroy();
  });
  const upstreams = open({ lab: { url: server.url } }, { retries: 1 });
  expect((await upstreams.get('lab').getManifest('a', 'b')).digest).toBe(DIGEST);
  expect(server.requests).toHaveLength(2);
});

test('throws the reason of a caller who leaves', async () => {
  const leave = new AbortController();
  const server = await listen(() => leave.abort(new Error('gone')));
  const work = open({ lab: { url: server.url } })
    .get('lab')
    .getManifest('a', 'b', { signal: leave.signal });
  await expect(work).rejects.toThrow('gone');
});

test('opens a blob and a range of it, and knows its size', async () => {
  const server = await listen((req, res) => {
    if (req.headers.range) res.writeHead(206, { 'content-range': `bytes 2-4/${RAW.length}` }).end(RAW.subarray(2, 5));
    else res.writeHead(200, { 'content-length': RAW.length }).end(RAW);
  });
  const lab = open({ lab: { url: server.url } }).get('lab');
  const whole = await lab.openBlob('a', DIGEST);
  expect([whole.size, await buffer(whole.body)]).toEqual([RAW.length, RAW]);
  const part = await lab.openBlob('a', DIGEST, { range: { start: 2, end: 4 } });
  expect(await buffer(part.body)).toEqual(RAW.subarray(2, 5));
  expect(server.requests[1]?.headers.range).toBe('bytes=2-4');
  expect(await lab.headBlob('a', DIGEST)).toEqual({ size: RAW.length });
});

test('refuses a whole body in place of a range', async () => {
  const server = await listen((_, res) => res.end(RAW));
  const work = open({ lab: { url: server.url } })
    .get('lab')
    .openBlob('a', DIGEST, { range: { start: 2, end: 4 } });
  await expect(work).rejects.toMatchObject({ status: 502 });
});

test('ends the upstream transfer when the reader cancels before the first byte', async () => {
  let closed: () => void;
  const ended = new Promise<void>(resolve => {
    closed = resolve;
  });
  const server = await listen((_, res) => {
    res.on('close', () => closed()).write('x');
  });
  const blob = await open({ lab: { url: server.url } })
    .get('lab')
    .openBlob('a', DIGEST);
  await blob.body.cancel();
  await ended;
});

test('lists a page of tags and says whether there are more', async () => {
  const server = await listen((_, res) => json(res, 200, { tags: ['b'] }, { link: '</v2/a/tags/list>; rel="next"' }));
  const page = await open({ lab: { url: server.url } })
    .get('lab')
    .listTags('a', { n: 1, last: 'a' });
  expect(page).toEqual({ tags: ['b'], hasMore: true });
  expect(server.requests[0]?.url).toBe('/v2/a/tags/list?n=1&last=a');
});

test.each([
  ['the API', '/referrers/', 1],
  ['the fallback tag', `/manifests/${DIGEST.replace(':', '-')}`, 2],
])('finds referrers by %s', async (_, path, count) => {
  const server = await listen((req, res) => {
    if (req.url?.includes(path)) res.writeHead(200, { 'content-type': mediaTypes.ociIndex }).end(RAW);
    else json(res, 404, {});
  });
  const found = await open({ lab: { url: server.url } })
    .get('lab')
    .findReferrers('a', DIGEST, undefined);
  expect(Buffer.from(found ?? [])).toEqual(RAW);
  expect(server.requests).toHaveLength(count);
});

test('finds no referrers where there are none', async () => {
  const server = await listen((_, res) => json(res, 404, {}));
  expect(
    await open({ lab: { url: server.url } })
      .get('lab')
      .findReferrers('a', DIGEST, 'x/y'),
  ).toBeUndefined();
});

function failure(work: Promise<unknown>): Promise<Error> {
  return work.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: Error) => error,
  );
}
