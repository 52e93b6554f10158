// HEAD where a registry refuses it: what GET says counts, and for a while HEAD is not tried again.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { createTestClock, failure, json, listen, open, openPusher, openUpstream, type Server } from './server.ts';

const RAW = Buffer.from('{"schemaVersion":2}');
const DIGEST = digestOf(RAW);
const HOUR = 3600_000;

type Answer = (req: IncomingMessage, res: ServerResponse) => unknown;

const serve: Answer = (_, res) =>
  res
    .writeHead(200, {
      'content-type': mediaTypes.ociManifest,
      'content-length': RAW.length,
      'docker-content-digest': DIGEST,
    })
    .end(RAW);

function listenRefusing(status: number, isRefused: (url: string) => boolean = () => true): Promise<Server> {
  return listen((req, res) => {
    if (req.method === 'HEAD' && isRefused(req.url ?? '')) res.writeHead(status).end();
    else serve(req, res);
  });
}

const methods = ({ requests }: Server) => requests.map(({ method }) => method);

test.each([400, 403, 404, 405, 501])(
  'asks by GET where HEAD of a tag is answered with %i, and then by GET alone',
  async status => {
    const server = await listenRefusing(status);
    const clock = createTestClock();
    const upstream = openUpstream({ url: server.url }, { clock });
    const head = await upstream.headManifest('a', 'tag');
    expect(head).toMatchObject({ digest: DIGEST, contentType: mediaTypes.ociManifest });
    expect(Buffer.from(head.body?.raw ?? [])).toEqual(RAW);
    await upstream.headManifest('a', 'tag');
    expect(methods(server)).toEqual(['HEAD', 'GET', 'GET']);
    clock.pass(HOUR);
    await upstream.headManifest('a', 'tag');
    expect(methods(server).slice(3)).toEqual(['HEAD', 'GET']);
  },
);

test.each([
  [405, ['HEAD', 'GET', 'GET']],
  [501, ['HEAD', 'GET', 'GET']],
  [403, ['HEAD', 'GET', 'HEAD', 'GET']],
  [404, ['HEAD', 'GET', 'HEAD', 'GET']],
])('takes a %i for what its other repositories say, too: %j', async (status, asked) => {
  const server = await listenRefusing(status);
  const upstream = openUpstream({ url: server.url });
  await upstream.headManifest('a', 'tag');
  await upstream.headManifest('b', 'tag');
  expect(methods(server)).toEqual(asked);
});

test('says what GET says, and tries HEAD again, where that is refused, too', async () => {
  const server = await listen((_, res) => json(res, 403, { errors: [{ code: 'DENIED' }] }));
  const upstream = openUpstream({ url: server.url });
  for (const _ of [1, 2])
    expect(await failure(upstream.headManifest('a', 'tag'))).toMatchObject({ code: 'DENIED', status: 403 });
  expect(methods(server)).toEqual(['HEAD', 'GET', 'HEAD', 'GET']);
});

test.each([401, 406, 429, 500, 503])('a HEAD that is answered with %i is not asked again by GET', async status => {
  const server = await listenRefusing(status);
  await failure(openUpstream({ url: server.url }).headManifest('a', 'tag'));
  expect(methods(server)).toEqual(['HEAD']);
});

test('believes a 404 where HEAD has worked', async () => {
  const server = await listenRefusing(404, url => url.endsWith('/gone'));
  const upstream = openUpstream({ url: server.url });
  await upstream.headManifest('a', 'tag');
  expect(await failure(upstream.headManifest('a', 'gone'))).toMatchObject({ status: 404 });
  expect(methods(server)).toEqual(['HEAD', 'HEAD']);
});

test.each([400, 403, 404, 405, 501])(
  'finds a blob whose HEAD is redirected to where only GET is answered: %i',
  async status => {
    const server = await listen((req, res) => {
      if (req.url?.startsWith('/store')) return req.method === 'HEAD' ? res.writeHead(status).end() : serve(req, res);
      return req.url?.includes('/blobs/') ? res.writeHead(307, { location: '/store?sig=GET' }).end() : serve(req, res);
    });
    const upstream = openUpstream({ url: server.url });
    expect(await upstream.headBlob('a', DIGEST)).toEqual({ size: RAW.length });
    // Manifests are asked for as ever: a GET of them may be counted.
    await upstream.headManifest('a', 'tag');
    expect(server.requests.at(-1)).toMatchObject({ method: 'HEAD', url: '/v2/a/manifests/tag' });
  },
);

test('leaves the body of a blob that it asks for by GET', async () => {
  let ended: Promise<unknown> | undefined;
  const server = await listen((req, res) => {
    if (req.method === 'HEAD') return res.writeHead(405).end();
    ended = new Promise(resolve => res.on('close', resolve));
    return res.writeHead(200, { 'content-length': 1e9 }).write('x');
  });
  expect(await openUpstream({ url: server.url }).headBlob('a', DIGEST)).toEqual({ size: 1e9 });
  await ended;
});

test('a push believes a 404: what it brings is most often not there', async () => {
  const server = await listen((_, res) => json(res, 404, {}));
  expect(await openPusher({ url: server.url }).hasBlob('a', DIGEST)).toBe(false);
  expect(methods(server)).toEqual(['HEAD']);
});

test('clients that show credentials of their own share what is known of HEAD', async () => {
  const server = await listenRefusing(405);
  const scopes = { key: Buffer.alloc(32, 7), lifeMs: HOUR };
  const upstreams = open({ lab: { url: server.url, passCredentials: true } }, { scopes });
  for (const username of ['alice', 'bob']) {
    await upstreams.get('lab', () => ({ username, password: 'x' })).headManifest('a', 'tag');
  }
  expect(methods(server)).toEqual(['HEAD', 'GET', 'GET']);
});

test.each(['tag', DIGEST])('asks for what the client accepts, too, after what images can be: %s', async reference => {
  const server = await listen(serve);
  const upstream = openUpstream({ url: server.url });
  const accept = ['application/vnd.example.artifact.v1+json'];
  await upstream.headManifest('a', reference, { accept });
  await upstream.getManifest('a', reference, { accept });
  for (const { headers } of server.requests) {
    expect(headers.accept?.split(', ').at(0)).toBe(mediaTypes.ociIndex);
    expect(headers.accept?.split(', ').slice(4)).toEqual(accept);
  }
});
