// Errors of an upstream: its own status where it gave one, 502 where it lied or broke, 504 where it hung, and none of its bytes.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { startApp, type TestApp, type TestAppOptions } from '../support/app.ts';
import { IMPATIENT, PATIENT } from '../support/patience.ts';
import { sendError } from '../support/registry-answers.ts';

const PATH = '/v2/lab/library/app/manifests/1';
const ZERO = `sha256:${'0'.repeat(64)}`;

let app: TestApp;

async function start(options?: TestAppOptions): Promise<void> {
  app = await startApp(options);
  app.putImage();
}

afterEach(() => app.close());

const hangs: (response: ServerResponse) => unknown = () => undefined;

test.each<[string, (response: ServerResponse) => unknown, number, string]>([
  ['its own code and status', response => sendError(response, 403, 'DENIED'), 403, 'DENIED'],
  ['its own code under an odd status', response => sendError(response, 451, 'DENIED'), 451, 'DENIED'],
  ['its 401', response => sendError(response, 401, 'UNAUTHORIZED'), 401, 'UNAUTHORIZED'],
  ['its 404 without a code', response => response.writeHead(404).end('gone'), 404, 'MANIFEST_UNKNOWN'],
  ['its 400', response => sendError(response, 400, 'NAME_INVALID'), 400, 'NAME_INVALID'],
  ['a status that nobody knows', response => sendError(response, 499, 'UNSUPPORTED'), 400, 'UNSUPPORTED'],
  ['its 429', response => sendError(response, 429, 'TOOMANYREQUESTS'), 429, 'TOOMANYREQUESTS'],
  ['a failure', response => response.writeHead(500).end(), 502, 'UNKNOWN'],
  ['a time-out behind it', response => response.writeHead(504).end(), 504, 'UNKNOWN'],
  ['that it hangs', hangs, 504, 'UNKNOWN'],
  ['that it breaks the connection', response => response.destroy(), 502, 'UNKNOWN'],
  ['a redirect into the void', response => response.writeHead(302, { location: 'file:///x' }).end(), 502, 'UNKNOWN'],
])('passes on %s', async (_, answer, status, code) => {
  await start({ patience: { retries: 0, timeouts: answer === hangs ? IMPATIENT : PATIENT } });
  app.registry.intercept((_request, response) => {
    answer(response);
    return true;
  });
  // A tag is asked for by HEAD, whose answer has no code.
  for (const method of ['GET', 'HEAD']) expect((await app.request(PATH, { method })).status).toBe(status);
  const response = await app.request(`/v2/lab/library/app/manifests/${ZERO}`);
  expect([response.status, await response.json()]).toMatchObject([status, { errors: [{ code }] }]);
});

test('an upstream that limits us comes with its Retry-After', async () => {
  await start();
  app.registry.intercept((_request, response) => Boolean(response.writeHead(429, { 'retry-after': '77' }).end()));
  for (const path of [PATH, `/v2/lab/library/app/blobs/${ZERO}`, '/v2/lab/library/app/tags/list']) {
    const response = await app.request(path);
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '77']);
  }
});

const bytes = (text: string, contentType: string = mediaTypes.ociManifest) => ({
  raw: Buffer.from(text),
  contentType,
});
const image = JSON.stringify({ schemaVersion: 2, config: {}, layers: [], manifests: [] });

test.each([
  ['what is not JSON', bytes('<html>'), 400, 'MANIFEST_INVALID'],
  ['an index that is an image too', bytes(image), 400, 'MANIFEST_INVALID'],
  ['one type under the name of another', bytes(`{"mediaType":"${mediaTypes.ociIndex}"}`), 400, 'MANIFEST_INVALID'],
  ['more than 4 MiB', bytes(' '.repeat(4 * 1024 * 1024 + 1)), 502, 'UNKNOWN'],
  ['Docker’s schema 1', bytes('{"schemaVersion":1}', 'application/json'), 400, 'MANIFEST_INVALID'],
])('an upstream that serves %s is named', async (_, { raw, contentType }, status, code) => {
  await start();
  const digest = digestOf(raw);
  app.registry.intercept((_request, response) => {
    response.writeHead(200, { 'content-type': contentType, 'docker-content-digest': digest }).end(raw);
    return true;
  });
  const response = await app.request(PATH);
  expect([response.status, await response.json()]).toMatchObject([status, { errors: [{ code }] }]);
});

test.each<[string, (request: IncomingMessage) => string]>([
  ['one digest and sends another for it', ({ method }) => (method === 'HEAD' ? ZERO : digestOf(Buffer.from('{}')))],
  ['a digest that its bytes do not have', () => ZERO],
])('an upstream that says %s is 502, and nothing of it is kept', async (_, digest) => {
  await start();
  app.registry.intercept((request, response) => {
    const headers = { 'content-type': mediaTypes.ociManifest, 'docker-content-digest': digest(request) };
    response.writeHead(200, headers).end('{}');
    return true;
  });
  const response = await app.request(PATH);
  expect([response.status, await response.json()]).toMatchObject([502, { errors: [{ code: 'UNKNOWN' }] }]);
  app.registry.intercept();
  expect((await app.request(PATH)).status).toBe(200);
});

test.each([
  ['another manifest for a digest', '/manifests/sha256', 502],
  ['another config for a digest', '/blobs/', 502],
])('an upstream that sends %s cannot spoil an augmentation', async (_, part, status) => {
  await start();
  app.registry.intercept((request, response) => {
    if (!request.url?.includes(part)) return false;
    response.writeHead(200, { 'content-type': mediaTypes.ociManifest }).end('{}');
    return true;
  });
  const body = { containerImage: app.image, containerConfig: { env: ['A=1'] } };
  const response = await app.request('/v1alpha2/container', { method: 'POST', body });
  expect(response.status).toBe(400);
  const pull = await app.request(`/v2/lab/library/app/manifests/1`, { headers: { Accept: mediaTypes.ociManifest } });
  expect(pull.status).toBe(part === '/blobs/' ? 200 : status);
});

test('an upstream that tells a digest which is not there, and then no manifest, is 404 for HEAD and GET alike', async () => {
  await start();
  app.registry.intercept((request, response) => {
    const isHead = request.method === 'HEAD';
    if (!request.url?.endsWith('/manifests/1')) return false;
    const told = { 'content-type': mediaTypes.ociManifest, 'docker-content-digest': ZERO };
    response.writeHead(isHead ? 200 : 404, isHead ? told : {}).end();
    return true;
  });
  for (const method of ['HEAD', 'GET']) expect((await app.request(PATH, { method })).status).toBe(404);
});
