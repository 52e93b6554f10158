// Where a submit takes layers from, and where it does not: every refusal is a 400 that says why.
import { createServer, type RequestListener } from 'node:http';
import { pipeline } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test } from 'vitest';
import { digestOf } from '../../../src/oci/digest.ts';
import { makeTar, startApi, type TestApi } from '../api.ts';

const ZSTD = 'application/vnd.oci.image.layer.v1.tar+zstd';
const WRONG = digestOf(new Uint8Array());
const layer = gzipSync(await makeTar('opt/hello', 'hi'));
const gzipDigest = digestOf(layer);

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

describe('a layer at an address', () => {
  test.each<[string, object, string]>([
    ['/layer', { gzipDigest: WRONG }, `${WRONG}: the bytes have digest ${gzipDigest}`],
    ['/layer', { gzipSize: 5 }, 'layers[0]: layer: gzipSize is 5, but there are more bytes than that'],
    ['/layer', { gzipSize: 9999 }, 'layers[0]: layer: gzipSize is 9999, but there are'],
    ['/layer', { tarDigest: WRONG }, `layers[0]: layer: tarDigest is ${WRONG}, but the unpacked bytes have digest`],
    [
      '/layer',
      { mediaType: ZSTD },
      `containerConfig.layers[0].mediaType: is ${ZSTD}, but the layer has the compression`,
    ],
    ['/none', {}, 'layer: status 404'],
    ['/page', {}, 'layers[0]: layer: not a tar'],
    ['/empty', {}, 'layers[0]: layer: it is empty'],
    ['/truncated', {}, 'layers[0]: layer: corrupt or truncated'],
    ['/cut', {}, 'layer: connection failed'],
    ['/endless', {}, 'layers[0]: layer: larger than the limit of 1048576 bytes'],
    ['/bomb', {}, 'layers[0]: layer: unpacked it is larger than the limit of 1048576 bytes'],
    ['/loop', {}, 'layer: more than 5 redirects'],
    ['/file', {}, 'layer: a redirect that is not http or https'],
  ])('%s with %j is refused', async (path, claims, message) => {
    const api = await start({ layers: { allowPrivateAddresses: true }, limits: { unpackedLayer: '1MiB' } });
    const { url } = await serve(answerLayer);
    const response = await submit(api, { location: `${url}${path}`, ...claims });
    expect([response.status, await response.json()]).toEqual([400, { message: expect.stringContaining(message) }]);
  });

  test('is fetched once for all who name it with its digest', async () => {
    const api = await start({ layers: { allowPrivateAddresses: true } });
    const { url, seen } = await serve(answerLayer);
    for (const size of [layer.byteLength, layer.byteLength]) {
      const response = await submit(api, { location: `${url}/layer`, gzipDigest, gzipSize: size });
      expect(response.status).toBe(200);
    }
    expect(seen).toEqual(['/layer']);
  });

  test('opens nothing in the store by its digest alone', async () => {
    const api = await start();
    const { content } = api.putImage({ index: false });
    const [digest = ''] = [...content].find(([, { mediaType }]) => mediaType.includes('layer')) ?? [];
    expect(digestOf(await (await api.request('GET', `/v2/lab/library/app/blobs/${digest}`)).bytes())).toBe(digest);
    const { url } = await serve(answerLayer);
    const response = await submit(api, { location: `${url}/layer`, gzipDigest: digest });
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('private or reserved')]);
  });
});

describe('a private address', () => {
  const hosts = ['127.0.0.1', 'localhost', '127.1', '2130706433', '0x7f000001', '0.0.0.0', '[::1]', '[::ffff:7f00:1]'];

  test.each(hosts)('gets no request for a layer, as http://%s', async host => {
    const api = await start();
    const { port, seen } = await serve(answerLayer);
    const response = await submit(api, { location: `http://${host}:${port}/layer` });
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('private or reserved')]);
    expect(seen).toEqual([]);
  });

  test.each(['169.254.169.254', '10.0.0.1', '192.168.0.1', '172.16.0.1', '100.64.0.1', '[fd00::1]', '[fe80::1]'])(
    'is not asked for a layer, as http://%s',
    async host => {
      const response = await submit(await start(), { location: `http://${host}/layer` });
      expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('private or reserved')]);
    },
  );

  test.each(['127.0.0.1', 'localhost', '[::1]'])('gets no request for a registry, as %s', async host => {
    const api = await start();
    api.putImage();
    const { port, seen } = await serve(answerLayer);
    const image = `${host}:${port}/app:1`;
    const blob = { location: `docker://${host}:${port}/v2/app/blobs/${gzipDigest}` };
    const responses = [
      await api.post('/v1alpha1/inspect', { containerImage: image }),
      await api.post('/v1alpha2/container', { containerImage: image }),
      await api.post('/v1alpha2/container', { containerImage: api.image, containerIncludes: [image] }),
      await submit(api, blob),
      await submit(api, { location: `oci://${host}:${port}/app@${gzipDigest}` }),
    ];
    for (const response of responses) {
      expect([response.status, await response.json()]).toEqual([400, { message: expect.any(String) }]);
    }
    expect(seen).toEqual([]);
  });
});

const answerLayer: RequestListener = (request, response) => {
  const head = response.writeHead.bind(response);
  const answers: Readonly<Record<string, () => unknown>> = {
    '/layer': () => response.end(layer),
    '/page': () => response.end('<html>'),
    '/empty': () => response.end(),
    '/truncated': () => response.end(layer.subarray(0, -20)),
    '/cut': () => head(200, { 'content-length': layer.length }).write(layer.subarray(0, 20), () => response.destroy()),
    '/endless': () => pipeline(endless(), response, () => {}),
    '/bomb': () => response.end(gzipSync(new Uint8Array(2 ** 24))),
    '/loop': () => head(302, { location: '/loop' }).end(),
    '/file': () => head(302, { location: 'file:///etc/passwd' }).end(),
  };
  (answers[request.url ?? ''] ?? (() => head(404).end()))();
};

function* endless(): Generator<Uint8Array> {
  for (;;) yield new Uint8Array(65_536);
}

async function start(config: Readonly<Record<string, unknown>> = {}): Promise<TestApi> {
  const api = await startApi(config);
  closers.push(() => api.close());
  return api;
}

async function serve(listener: RequestListener) {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    seen.push(request.url ?? '');
    listener(request, response);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  closers.push(async () => {
    const closed = new Promise(resolve => server.close(resolve));
    server.closeAllConnections();
    await closed;
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening on a port');
  return { url: `http://127.0.0.1:${address.port}`, port: address.port, seen };
}

function submit(api: TestApi, requested: object): Promise<Response> {
  api.putImage();
  return api.post('/v1alpha2/container', { containerImage: api.image, containerConfig: { layers: [requested] } });
}
