// Errors: each step of a pull says what was wrong, in the JSON of its API, and nothing that it must not.
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, describe, expect, test } from 'vitest';
import { HOST, startApp, type TestApp, type TestAppOptions } from '../support/app.ts';

const PATH = '/v2/lab/library/app/manifests/1';
const ZERO = `sha256:${'0'.repeat(64)}`;

let app: TestApp;

async function start(options?: TestAppOptions): Promise<void> {
  app = await startApp(options);
  app.putImage();
}

afterEach(() => app.close());

test.each([
  ['PUT', '/service-info', 'GET, HEAD'],
  ['DELETE', '/v1alpha1/inspect', 'POST'],
  ['POST', '/v1alpha2/container/0123456789ab', 'GET, HEAD'],
  ['GET', '/v1alpha2/container', 'POST'],
  ['PUT', '/container-token/0123456789ab', 'GET, HEAD, DELETE'],
])('%s %s is 405, and Allow has what there is', async (method, path, allow) => {
  await start();
  const response = await app.request(path, { method });
  expect([response.status, response.headers.get('Allow'), await response.json()]).toEqual([
    ...[405, allow],
    { message: `there is no such route for ${method}: there is one for ${allow}` },
  ]);
  expect((await app.request(`${path}/no/such`, { method })).status).toBe(404);
});

test('a method that the registry has not is 405 in its own JSON', async () => {
  await start();
  const response = await app.request(PATH, { method: 'POST' });
  expect([response.status, await response.json()]).toMatchObject([405, { errors: [{ code: 'UNSUPPORTED' }] }]);
  expect(response.headers.get('Allow')).toBe('GET, HEAD, PUT, DELETE');
});

describe('of a name or reference', () => {
  test.each([
    ['/v2/lab/Bad/manifests/1', 400, 'NAME_INVALID'],
    ['/v2/lab/a//b/manifests/1', 400, 'NAME_INVALID'],
    ['/v2/lab/..%2f..%2fetc/manifests/1', 400, 'NAME_INVALID'],
    ['/v2/lab/%zz/manifests/1', 400, 'NAME_INVALID'],
    ['/v2/lab/a%00b/manifests/1', 400, 'NAME_INVALID'],
    [`/v2/lab/${'a'.repeat(10_000)}/manifests/1`, 400, 'NAME_INVALID'],
    ['/v2/lab/library/app/manifests/-', 400, 'TAG_INVALID'],
    ['/v2/lab/library/app/manifests/..%2fx', 400, 'TAG_INVALID'],
    [`/v2/lab/library/app/manifests/${'a'.repeat(10_000)}`, 400, 'TAG_INVALID'],
    ['/v2/lab/library/app/manifests/sha256:1', 400, 'DIGEST_INVALID'],
    [`/v2/lab/library/app/manifests/${ZERO.toUpperCase()}`, 400, 'DIGEST_INVALID'],
    ['/v2/lab/library/app/blobs/latest', 400, 'DIGEST_INVALID'],
    ['/v2/lab/library/app/blobs/sha256:..%2f..%2fetc', 400, 'DIGEST_INVALID'],
    ['/v2/lab/library/app/manifests/none', 404, 'MANIFEST_UNKNOWN'],
    [`/v2/lab/library/app/manifests/${ZERO}`, 404, 'MANIFEST_UNKNOWN'],
    [`/v2/lab/library/app/blobs/${ZERO}`, 404, 'BLOB_UNKNOWN'],
    ['/v2/lab/library/none/manifests/1', 404, 'NAME_UNKNOWN'],
    [`/v2/lab/library/none/manifests/${ZERO}`, 404, 'NAME_UNKNOWN'],
    ['/v2/wt/0123456789ab/library/app/manifests/1', 404, 'NAME_UNKNOWN'],
    ['/v2/127.0.0.1:1/app/manifests/1', 403, 'DENIED'],
    ['/v2/169.254.169.254/latest/meta-data/manifests/1', 403, 'DENIED'],
    ['/v2/_catalog?n=x', 400, 'UNSUPPORTED'],
  ])('%s is %i %s, and without a body for HEAD', async (path, status, code) => {
    await start();
    const response = await app.request(path);
    const text = await response.text();
    expect([response.status, JSON.parse(text)]).toMatchObject([
      status,
      { errors: [{ code, message: expect.any(String) }] },
    ]);
    expect(text.length).toBeLessThan(1000);
    const head = await app.request(path, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([status, '']);
    expect(head.headers.get('content-type')).toMatch(/^application\/json/);
  });

  test('a name or tag with line breaks is quoted in one line', async () => {
    await start();
    for (const path of ['/v2/lab/library/app/manifests/a%0a%1b%5b31mb', '/v2/lab/library/app/blobs/a%0db']) {
      const { errors } = Object(await (await app.request(path)).json());
      expect(errors[0].message).toMatch(/^[^\p{Cc}]+\\(?:n|r)[^\p{Cc}]+$/u);
    }
  });

  test('what this version does not do is told the client, and is no error of the log', async () => {
    await start();
    const body = { containerFile: Buffer.from('FROM scratch').toString('base64'), format: 'sif' };
    expect((await app.request('/v1alpha2/container', { method: 'POST', body })).status).toBe(501);
    expect(app.log.filter(line => line.includes('"level":50'))).toEqual([]);
  });

  test('there is none in a name whose slashes are written as %2F', async () => {
    await start();
    expect((await app.request('/v2/lab%2Flibrary%2fapp/manifests/1')).status).toBe(200);
  });

  test('names without a registry are refused where there is no default upstream', async () => {
    await start({ config: { defaultUpstream: 'none' } });
    const response = await app.request('/v2/library/app/manifests/1');
    expect([response.status, await response.json()]).toMatchObject([404, { errors: [{ code: 'NAME_UNKNOWN' }] }]);
  });

  test('registries without an entry are refused where they are closed', async () => {
    await start({ config: { openUpstreams: false } });
    const response = await app.request('/v2/quay.io/org/app/manifests/1');
    expect([response.status, await response.json()]).toMatchObject([403, { errors: [{ code: 'DENIED' }] }]);
  });
});

describe('of a route or method', () => {
  test.each([
    ['GET', '/v2/lab', 404, 'UNKNOWN'],
    ['GET', '/v2/lab/library/app/manifests', 404, 'UNKNOWN'],
    ['OPTIONS', '/v2/lab/library/app/manifests/1', 405, 'UNSUPPORTED'],
    ['PUT', '/v2/lab/library/app/manifests/2', 405, 'UNSUPPORTED'],
    ['POST', '/v2/lab/library/app/blobs/uploads/', 405, 'UNSUPPORTED'],
    ['DELETE', '/v2/lab/library/app/manifests/1', 405, 'UNSUPPORTED'],
  ])('%s %s is an error of the registry', async (method, path, status, code) => {
    await start();
    const response = await app.request(path, { method });
    expect([response.status, await response.json()]).toMatchObject([status, { errors: [{ code }] }]);
  });

  test.each([
    ['GET', '/'],
    ['GET', '/nothing'],
  ])('%s %s is an error of the API', async (method, path) => {
    await start();
    const response = await app.request(path, { method });
    expect([response.status, await response.json()]).toEqual([404, { message: expect.any(String) }]);
  });
});

describe('of a request to the API', () => {
  test('a body beyond the limit is 413, in pieces of unknown number too', async () => {
    await start({ config: { limits: { requestBody: '1KiB' } } });
    const pieces = () => ReadableStream.from(Array.from({ length: 100 }, () => Buffer.from(`"${'x'.repeat(100)}"`)));
    for (const body of ['x'.repeat(2000), pieces()]) {
      const headers = { 'Content-Type': 'application/json' };
      const response = await app.request('/v1alpha2/container', { method: 'POST', headers, body });
      expect([response.status, await response.json()]).toEqual([413, { message: expect.stringContaining('1024') }]);
    }
  });

  test.each([
    [{ Host: 'veneer.evil.example' }],
    [{ Host: 'localhost.evil.example' }],
    [{ Host: '127.0.0.1.evil.example' }],
    [{ Host: 'evil.example', 'X-Forwarded-Host': 'localhost' }],
  ])('a host that anybody may claim is in no name (%o)', async headers => {
    await start({ config: { listen: '0.0.0.0:8080' } });
    const response = await app.request('/v1alpha2/container', {
      method: 'POST',
      headers,
      body: { containerImage: app.image },
    });
    expect([response.status, await response.json()]).toEqual([400, { message: expect.stringContaining('publicUrl') }]);
  });

  test.each([
    [{}, { 'X-Forwarded-Host': 'evil.example', Forwarded: 'host=evil.example' }, HOST],
    [{ publicUrl: 'https://veneer.example:8443' }, { Host: 'evil.example' }, 'veneer.example:8443'],
  ])('the host of a name is the loopback’s or the configured one (%o, %o)', async (config, headers, host) => {
    await start({ config });
    const response = await app.request('/v1alpha2/container', {
      method: 'POST',
      headers,
      body: { containerImage: app.image },
    });
    expect(Object(await response.json()).targetImage).toMatch(new RegExp(`^${host.replaceAll('.', '\\.')}/wt/`));
  });
});

test('of our own records are 503 UNAVAILABLE, and only the log knows the cause', async () => {
  await start();
  const database = new DatabaseSync(join(app.directory, 'data/records.db'), { timeout: 5_000 });
  database.exec('DROP TABLE records');
  database.close();
  const response = await app.request(PATH);
  expect([response.status, await response.json()]).toEqual([
    503,
    {
      errors: [
        {
          code: 'UNAVAILABLE',
          message: expect.stringMatching(/^records cannot be read .* log of Veneer has the cause/),
        },
      ],
    },
  ]);
  expect(app.log.join('')).toMatch(/"level":50.*no such table/);
  const health = await app.request('/health/ready');
  expect([health.status, await health.text()]).toEqual([503, expect.not.stringContaining('table')]);
});
