// What a registry answers, and what that becomes for the rooms above.
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { MAX_MANIFEST_BYTES } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { failure, json, listen, openUpstream } from './server.ts';

const RAW = Buffer.from('{"schemaVersion":2}');
const DIGEST = digestOf(RAW);

test('reads a manifest by tag with the digest of its bytes and identity encoding', async () => {
  const server = await listen((_, res) => res.writeHead(200, { 'content-type': mediaTypes.ociManifest }).end(RAW));
  const manifest = await openUpstream({ url: server.url }).getManifest('a/b', 'latest');
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
  const work = openUpstream({ url: server.url }).getManifest('a', reference);
  await expect(work).rejects.toMatchObject({ name: 'RegistryError', status: 502 });
});

test('refuses a manifest beyond the limit', async () => {
  const server = await listen((_, res) => res.end(Buffer.alloc(MAX_MANIFEST_BYTES + 1)));
  const work = openUpstream({ url: server.url }).getManifest('a', 'b');
  await expect(work).rejects.toMatchObject({ status: 502, message: expect.stringContaining('more than') });
});

test('says the digest and type of a manifest from its head alone', async () => {
  const headers = { 'docker-content-digest': DIGEST, 'content-type': `${mediaTypes.ociIndex}; charset=utf-8` };
  const server = await listen((_, res) => res.writeHead(200, headers).end());
  const head = await openUpstream({ url: server.url }).headManifest('a', 'b');
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
  ['its status alone for a 400 without a code', 400, {}, { code: 'UNKNOWN', status: 400 }],
  ['UNSUPPORTED for a 405', 405, {}, { code: 'UNSUPPORTED', status: 405 }],
  ['UNKNOWN and 502 for a 503', 503, own('DENIED'), { code: 'UNKNOWN', status: 502 }],
  ['no code from a body too long', 404, [own('x'), 'x'.repeat(70_000)], { code: 'MANIFEST_UNKNOWN' }],
])('gives %s', async (_, status, body, expected) => {
  const server = await listen((_, res) => json(res, status, body, { 'retry-after': '77' }));
  const error = await failure(openUpstream({ url: server.url }).getManifest('a', 'b'));
  expect(error).toMatchObject({ name: 'RegistryError', ...expected });
  expect(error.message).not.toContain('canary');
});

test('gives 502 for a refused connection', async () => {
  const error = await failure(openUpstream({ url: 'http://127.0.0.1:1' }).getManifest('a', 'b'));
  expect(error).toMatchObject({ status: 502, message: expect.stringContaining('ECONNREFUSED') });
});

test('throws the reason of a caller who leaves', async () => {
  const leave = new AbortController();
  const server = await listen(() => leave.abort(new Error('gone')));
  const work = openUpstream({ url: server.url }).getManifest('a', 'b', { signal: leave.signal });
  await expect(work).rejects.toThrow('gone');
});

test('lists a page of tags and says whether there are more', async () => {
  const server = await listen((_, res) => json(res, 200, { tags: ['b'] }, { link: '</v2/a/tags/list>; rel="next"' }));
  const page = await openUpstream({ url: server.url }).listTags('a', { n: 1, last: 'a' });
  expect(page).toEqual({ tags: ['b'], hasMore: true });
  expect(server.requests[0]?.url).toBe('/v2/a/tags/list?n=1&last=a');
});
