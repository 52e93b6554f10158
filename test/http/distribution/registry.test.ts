// What a blob request costs upstream, and what it answers: a real app over a real registry that counts.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { sendError } from '../../support/registry-answers.ts';
import { startApi, type TestApi } from '../api.ts';

const raw = Buffer.from('a layer');
const content = { mediaType: 'application/octet-stream', raw };
const absent = digestOf(Buffer.from('another'));

let api: TestApi;
let digest: Digest;

beforeEach(async () => {
  api = await startApi();
  digest = digestOf(raw);
  api.registry.put('library/app', [content]);
});

afterEach(() => api.close());

describe('a HEAD of a blob', () => {
  test('starts no transfer', async () => {
    const response = await request('HEAD');
    expect([response.status, response.headers.get('content-length')]).toEqual([200, '7']);
    expect(seen()).toEqual(['HEAD']);
  });

  test('asks nothing upstream once the blob is kept', async () => {
    await pull();
    // It is kept a little after its reader has it.
    await expect.poll(headAndCount).toEqual({ length: '7', asked: 0 });
  });

  test('of one that nobody has is 404', async () => {
    expect((await request('HEAD', {}, absent)).status).toBe(404);
    // A HEAD that is refused says nothing about the GET.
    expect(seen()).toEqual(['HEAD', 'GET']);
  });
});

describe('a request with If-None-Match', () => {
  test.each([
    ['its digest', () => `"${digest}"`],
    ['its digest among others, and weak', () => `"x", W/"${digest}"`],
    ['any', () => '*'],
  ])('of %s is 304 without a transfer', async (_, tag) => {
    for (const method of ['GET', 'HEAD']) {
      const response = await request(method, { 'If-None-Match': tag() });
      expect([response.status, response.headers.get('etag')]).toEqual([304, `"${digest}"`]);
    }
    expect(seen()).toEqual(['HEAD', 'HEAD']);
  });

  test('of another digest gets the blob', async () => {
    const response = await request('GET', { 'If-None-Match': `"${absent}"` });
    expect([response.status, await response.text()]).toEqual([200, 'a layer']);
    expect(seen()).toEqual(['GET']);
  });

  test('is 404 where no repository has the blob', async () => {
    expect((await request('GET', { 'If-None-Match': `"${absent}"` }, absent)).status).toBe(404);
  });

  test('is 404 in a repository that has not the blob, though another one has', async () => {
    await pull();
    const path = `/v2/lab/library/other/blobs/${digest}`;
    const response = await send('GET', path, { 'If-None-Match': `"${digest}"` });
    expect([response.status, await response.json()]).toEqual([404, { errors: [expect.any(Object)] }]);
  });

  test("has the upstream's answer where it refuses", async () => {
    api.registry.intercept((_request, response) => {
      sendError(response, 403, 'DENIED');
      return true;
    });
    expect((await request('GET', { 'If-None-Match': `"${digest}"` })).status).toBe(403);
  });
});

function request(method: string, headers: Record<string, string> = {}, of = digest): Promise<Response> {
  return send(method, `/v2/lab/library/app/blobs/${of}`, headers);
}

async function send(method: string, path: string, headers: Record<string, string>): Promise<Response> {
  return api.app.fetch(new Request(`http://127.0.0.1${path}`, { method, headers }));
}

async function pull(): Promise<void> {
  expect(await (await request('GET')).text()).toBe('a layer');
}

async function headAndCount() {
  const before = seen().length;
  const { headers } = await request('HEAD');
  return { length: headers.get('content-length'), asked: seen().length - before };
}

/** The methods of all requests for blobs that came to the registry. */
function seen(): readonly string[] {
  return api.registry.requests.filter(({ url }) => url.includes('/blobs/')).map(({ method }) => method);
}
