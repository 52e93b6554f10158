// How many tokens and layers of theirs a caller may have, and the response beyond that.
import { afterEach, expect, test } from 'vitest';
import { dataUrl, makeTar, startApp, type TestApp } from '../support/app.ts';

let app: TestApp;

afterEach(() => app.close());

async function start(tokens: object): Promise<void> {
  // Nobody is local here.
  app = await startApp({ config: { publicUrl: 'http://veneer.example', tokens } });
  app.putImage();
}

async function submit(containerConfig: object) {
  const body = { containerImage: app.image, containerConfig };
  const headers = { 'Content-Type': 'application/json', Host: 'veneer.example' };
  const response = await app.request('/v1alpha2/container', { method: 'POST', headers, body });
  const { message = '' } = Object(await response.json());
  return { status: response.status, message: String(message), retryAfter: response.headers.get('Retry-After') };
}

const layerOf = async (text: string) => ({ layers: [{ location: dataUrl(await makeTar('a', text)) }] });

test('tokens are counted, and too many are refused with the time to come again', async () => {
  await start({ rate: { anonymous: '3/1h' } });
  for (let at = 0; at < 3; at++) expect(await submit({ env: [`A=${at}`] })).toMatchObject({ status: 200 });
  const { status, message, retryAfter } = await submit({ env: ['A=4'] });
  const limit = '3 tokens in 3600 seconds (tokens.rate.anonymous in veneer.yaml)';
  expect([status, message]).toEqual([429, `too many tokens: 1 more would be 4 of ${limit}`]);
  expect(Number(retryAfter)).toBeGreaterThan(3500);
});

test('a request of which much is kept counts for several, but not for the bytes of its layers', async () => {
  await start({ rate: { anonymous: '4/1h' } });
  expect(await submit(await layerOf('x'.repeat(200_000)))).toMatchObject({ status: 200 });
  expect(await submit({ env: [`A=${'x'.repeat(140_000)}`] })).toMatchObject({ status: 429 });
  expect(await submit({ env: [`A=${'x'.repeat(70_000)}`] })).toMatchObject({ status: 200 });
  expect(await submit({})).toMatchObject({ status: 429 });
});

test('the first version of the API, and what is built, count too', async () => {
  await start({ rate: { anonymous: '1/1h' } });
  const headers = { 'Content-Type': 'application/json', Host: 'veneer.example' };
  const ask = (path: string, body: object) => app.request(path, { method: 'POST', headers, body });
  expect((await ask('/container-token', { containerImage: app.image, containerConfig: { env: ['A=1'] } })).status).toBe(
    200,
  );
  expect((await ask('/container-token', { containerImage: app.image, containerConfig: { env: ['A=1'] } })).status).toBe(
    429,
  );
  const containerFile = Buffer.from('FROM scratch').toString('base64');
  expect((await ask('/v1alpha2/container', { containerFile })).status).toBe(429);
});

test('layers of one caller have their quota, of which its message tells', async () => {
  await start({ layers: { maxSize: '1MiB', maxSizePerCaller: '300KiB' } });
  expect(await submit(await layerOf('a'.repeat(200_000)))).toMatchObject({ status: 200 });
  expect(await submit(await layerOf('a'.repeat(200_000)))).toMatchObject({ status: 200 });
  const refused = await submit(await layerOf('b'.repeat(200_000)));
  expect(refused).toMatchObject({ status: 429, retryAfter: '600' });
  expect(refused.message).toContain('tokens.layers.maxSizePerCaller');
  await app.restart();
  expect(await submit(await layerOf('b'.repeat(200_000)))).toMatchObject({ status: 429 });
  expect(await submit({ env: ['A=1'] })).toMatchObject({ status: 200 });
});

test('layers of all have theirs', async () => {
  await start({ layers: { maxSize: '300KiB' } });
  expect(await submit(await layerOf('a'.repeat(200_000)))).toMatchObject({ status: 200 });
  const refused = await submit(await layerOf('b'.repeat(200_000)));
  expect([refused.status, refused.message]).toEqual([507, expect.stringContaining('tokens.layers.maxSize')]);
});
