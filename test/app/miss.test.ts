// A miss, on the wire: what many clients want at once is one transfer, that all of them follow from its first byte, and no lie reaches its
// end.
import { once } from 'node:events';
import { get, type IncomingMessage, type ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { digestOf, parseDigest } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType } from '../../src/oci/media-type.ts';
import { generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';

const CLIENTS = 20;
const NAME = 'lab/library/app';
const SIZE = 6 * 2 ** 20;
const PART = 2 * 2 ** 20;
const RAW = Buffer.alloc(SIZE, 'a body that is not the same at every place, as 61 is prime, you see');
const DIGEST = digestOf(RAW);
const BLOB = `/v2/${NAME}/blobs/${DIGEST}`;

let registry: TestRegistry;
let server: TestServer;

beforeEach(async () => {
  registry = await startRegistry();
  registry.put('library/app', [{ mediaType: 'application/octet-stream', raw: RAW }]);
  server = await startServer({ upstreams: { lab: { url: registry.url } } });
});

afterEach(async () => {
  await server.close();
  await registry.close();
});

/** The answer to a request on a connection of its own. */
async function ask(path: string, headers: Record<string, string> = {}): Promise<IncomingMessage> {
  const request = get({ host: '127.0.0.1', port: server.port, path, headers, agent: false });
  const [response]: IncomingMessage[] = await once(request, 'response');
  if (!response) throw new Error('no response');
  return response;
}

async function read(path: string): Promise<Buffer> {
  const response = await ask(path);
  if (response.statusCode !== 200) throw new Error(`${path}: ${response.statusCode}`);
  return buffer(response);
}

function forAll<T>(work: (client: number) => Promise<T>): Promise<readonly T[]> {
  return Promise.all(Array.from({ length: CLIENTS }, (_, client) => work(client)));
}

/** The upstream sends the first part of the blob, and the rest when it is told to. */
function holdTransfer(finish: (response: ServerResponse) => unknown = response => response.end(RAW.subarray(PART))) {
  const held = Promise.withResolvers<ServerResponse>();
  registry.intercept(({ method, headers, url }, response) => {
    if (method !== 'GET' || headers.range || !url?.includes('/blobs/')) return false;
    response.writeHead(200, { 'content-length': SIZE }).write(RAW.subarray(0, PART));
    held.resolve(response);
    return true;
  });
  return async () => finish(await held.promise);
}

function transfers(): readonly (string | undefined)[] {
  return registry.requests.filter(({ url }) => url.includes('/blobs/')).map(({ headers }) => headers.range);
}

test('20 cold pulls of one image at once fetch each manifest and blob exactly once', async () => {
  const { root, content } = generateImage({
    seed: 7,
    platforms: ['linux/amd64', 'linux/arm64', 'linux/arm/v7'],
    layers: 3,
    family: 'oci',
  });
  const contents = [...content].map(([digest, each]) => ({ ...each, ...(digest === root.digest && { tags: ['1'] }) }));
  registry.put('library/app', contents);
  await forAll(async () => {
    const tag = await ask(`/v2/${NAME}/manifests/1`);
    await buffer(tag);
    const digest = parseDigest(`${tag.headers['docker-content-digest']}`);
    expect(digest).toBe(root.digest);
    await checkImage(root, ({ mediaType, digest: each }) =>
      read(`/v2/${NAME}/${isIndexType(mediaType) || isManifestType(mediaType) ? 'manifests' : 'blobs'}/${each}`),
    );
  });
  const got = registry.requests.filter(({ method }) => method === 'GET').map(({ url }) => url.split('/').at(-1) ?? '');
  expect(got.toSorted()).toEqual([...content.keys()].map(String).toSorted());
  expect(registry.requests.filter(({ method }) => method === 'HEAD').map(({ url }) => url)).toEqual([
    '/v2/library/app/manifests/1',
  ]);
});

test('the last of 20 clients has its first byte before the transfer ends', async () => {
  const finish = holdTransfer();
  const responses = await forAll(async () => {
    const response = await ask(BLOB);
    await once(response, 'readable');
    return response;
  });
  await finish();
  for (const response of responses) expect((await buffer(response)).equals(RAW)).toBe(true);
  expect(transfers()).toEqual([undefined]);
});

test('a client that leaves takes nothing from the others', async () => {
  const finish = holdTransfer();
  const [first, ...others] = await forAll(async () => {
    const response = await ask(BLOB);
    await once(response, 'readable');
    return response;
  });
  first?.on('error', () => {}).destroy();
  await finish();
  for (const response of others) expect((await buffer(response)).equals(RAW)).toBe(true);
  expect(transfers()).toEqual([undefined]);
});

test('a part of a blob that is still arriving is served as it comes, but for its last byte, which waits until all is verified', async () => {
  const finish = holdTransfer();
  const whole = await ask(BLOB);
  const part = await ask(BLOB, { Range: 'bytes=100-199' });
  expect([part.statusCode, part.headers['content-range']]).toEqual([206, `bytes 100-199/${SIZE}`]);
  const received: Buffer[] = [];
  part.on('data', chunk => received.push(chunk));
  await expect.poll(() => Buffer.concat(received).length).toBe(99);
  const read: Buffer[] = [];
  whole.on('data', chunk => read.push(chunk));
  const ended = once(whole, 'end');
  // What is far ahead of what has arrived would be requested by itself.
  await expect.poll(() => Buffer.concat(read).length).toBeGreaterThan(PART / 2);
  const last = await ask(BLOB, { Range: `bytes=${PART * 2}-` });
  await finish();
  await Promise.all([once(part, 'end'), ended]);
  expect(Buffer.concat(received).equals(RAW.subarray(100, 200))).toBe(true);
  expect((await buffer(last)).equals(RAW.subarray(PART * 2))).toBe(true);
  expect(Buffer.concat(read).equals(RAW)).toBe(true);
  expect(transfers()).toEqual([undefined]);
});

test('a transfer that the upstream cuts continues by Range, and 20 clients have the whole', async () => {
  const cut = holdTransfer(response => response.destroy());
  const responses = await forAll(() => ask(BLOB));
  await cut();
  for (const response of responses) expect((await buffer(response)).equals(RAW)).toBe(true);
  const [first, second, ...more] = transfers();
  expect([first, second, more]).toEqual([undefined, expect.stringMatching(/^bytes=\d+-\d+$/), []]);
});

test.each<[string, (response: ServerResponse) => unknown]>([
  ['lies in its last byte', response => response.end(Buffer.concat([RAW.subarray(PART, -1), Buffer.from('!')]))],
  ['lies in the middle', response => response.end(Buffer.concat([Buffer.from('!'), RAW.subarray(PART + 1)]))],
])(
  'an upstream that %s: all 20 connections break before the last byte, and nothing of it is kept',
  async (_, finish) => {
    const lie = holdTransfer(finish);
    const responses = await forAll(async () => {
      const response = await ask(BLOB);
      let received = 0;
      response.on('data', chunk => {
        received += chunk.length;
      });
      const end = Promise.withResolvers<string>();
      response.on('error', () => end.resolve('broken'));
      response.on('end', () => end.resolve('whole'));
      return async () => ({ how: await end.promise, received });
    });
    await lie();
    for (const outcome of responses) {
      const { how, received } = await outcome();
      expect(how).toBe('broken');
      expect(received).toBeLessThan(SIZE);
    }
    registry.intercept();
    expect((await read(BLOB)).equals(RAW)).toBe(true);
  },
);

test('an upstream that fails is asked no more than its breaker lets, and 20 clients have an error before any byte', async () => {
  registry.intercept((request, response) => {
    if (!request.url?.includes('/blobs/')) return false;
    response.writeHead(503).end();
    return true;
  });
  const statuses = await forAll(async () => {
    const response = await ask(BLOB);
    await buffer(response);
    return response.statusCode;
  });
  expect(statuses.filter(status => status !== 502 && status !== 503)).toEqual([]);
  expect(transfers().length).toBeLessThanOrEqual(5);
});
