// What the work of one request costs: it ends with its client, and equal parts of it are done once. Over a real connection.
import { once } from 'node:events';
import { createServer, request, type Server, type ServerResponse } from 'node:http';
import { json } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { serve } from '@hono/node-server';
import { afterEach, expect, test } from 'vitest';
import { makeTar, startApi, type TestApi } from '../api.ts';

const layer = gzipSync(await makeTar('opt/hello', 'hi'));

let api: TestApi;
let app: Server;
let layers: Server;
/** What the server of layers was asked for, with the answers that it has not ended. */
let asked: { readonly path: string; readonly response: ServerResponse }[];

afterEach(async () => {
  for (const server of [app, layers]) {
    server.closeAllConnections();
    await new Promise(resolve => server.close(resolve));
  }
  await api.close();
});

test('ends with its client: a layer that is on its way is asked for no longer', async () => {
  await open();
  const sent = submit({ layers: [{ location: at('/stalls') }] });
  sent.on('error', () => {});
  await until(() => asked.length === 1);
  const ended = once(asked[0]?.response ?? app, 'close');
  sent.destroy();
  await ended;
});

test('ends when it has had its time, with a 504', async () => {
  await open('2s');
  const answer = await answerOf(submit({ layers: [{ location: at('/stalls') }] }));
  expect(answer).toEqual([504, { message: 'the request took longer than 2 s (limits.requestTime in veneer.yaml)' }]);
  await until(() => asked.every(({ response }) => response.destroyed));
});

test('looks at equal layers once, whatever their platforms, and at few others at a time', async () => {
  await open();
  const equal = Array.from({ length: 12 }, (_, i) => ({
    location: at('/layer'),
    platforms: [i % 2 ? 'amd64' : 'arm64'],
  }));
  expect(await answerOf(submit({ layers: equal }))).toEqual([200, expect.objectContaining({ succeeded: true })]);
  expect(asked.map(({ path }) => path)).toEqual(['/layer']);
  const many = submit({ layers: Array.from({ length: 40 }, (_, i) => ({ location: at(`/stalls/${i}`) })) });
  many.on('error', () => {});
  await until(() => asked.length >= 1 + 4);
  await new Promise(resolve => setTimeout(resolve, 200));
  expect(asked.length).toBe(1 + 4);
  many.destroy();
});

test('refuses layers that unpack to more than a request may have, together', async () => {
  await open();
  const bombs = await Promise.all(
    [1, 2, 3].map(async at => gzipSync(Buffer.concat([await makeTar(`${at}`, ''), Buffer.alloc(30 * 1024 * 1024)]))),
  );
  const locations = bombs.map(bomb => ({ location: `data:${bomb.toString('base64')}` }));
  const [status, body] = await answerOf(submit({ layers: locations }));
  expect([status, Object(body).message]).toEqual([
    400,
    expect.stringContaining('all layers of a request together unpack'),
  ]);
  // Each by itself, and equal ones, are within it.
  for (const { location } of locations) {
    const [each] = await answerOf(submit({ layers: Array(5).fill({ location }) }));
    expect(each).toBe(200);
  }
  // What is known by now is not unpacked again.
  expect(await answerOf(submit({ layers: locations }))).toEqual([200, expect.anything()]);
});

function at(path: string): string {
  return `http://127.0.0.1:${Object(layers.address()).port}${path}`;
}

function submit(containerConfig: object) {
  const headers = { 'Content-Type': 'application/json' };
  const url = `http://127.0.0.1:${Object(app.address()).port}/v1alpha2/container`;
  return request(url, { method: 'POST', headers }).end(JSON.stringify({ containerImage: api.image, containerConfig }));
}

async function answerOf(sent: ReturnType<typeof request>): Promise<[status: number | undefined, body: unknown]> {
  const [response] = await once(sent, 'response');
  return [response.statusCode, await json(response)];
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise(resolve => setTimeout(resolve, 5));
}

async function open(requestTime = '10m'): Promise<void> {
  api = await startApi({
    layers: { allowPrivateAddresses: true },
    limits: { unpackedRequest: '64MiB', unpackRatio: 10_000, requestTime },
  });
  api.putImage();
  app = Object(serve({ fetch: api.app.fetch, hostname: '127.0.0.1', port: 0 }));
  asked = [];
  layers = createServer(({ url: path = '' }, response) => {
    asked.push({ path, response });
    if (path === '/layer') response.end(layer);
    else response.write(layer.subarray(0, 100));
  }).listen(0, '127.0.0.1');
  await Promise.all([once(app, 'listening'), once(layers, 'listening')]);
}
