// Pushes that fail, and tokens for them: what is reported about a failure, and what a token is asked for.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { everythingOf, failure, json, listen, openPusher, pushed, type Server } from './server.ts';

const raw = Buffer.from('the bytes of a layer');
const digest = digestOf(raw);

type Handler = (req: IncomingMessage, res: ServerResponse) => unknown;

describe('a push fails', () => {
  const FAILURES: readonly [status: number, code: string, shown: number][] = [
    [401, 'UNAUTHORIZED', 401],
    [403, 'DENIED', 403],
    [404, 'NAME_UNKNOWN', 404],
    [429, 'TOOMANYREQUESTS', 429],
    [500, 'UNKNOWN', 502],
    [504, 'UNKNOWN', 504],
    [307, 'UNKNOWN', 502],
  ];

  /** Sends back all that it got. */
  const echo =
    (status: number): Handler =>
    async (req, res) => {
      const seen = `${req.url} ${req.rawHeaders.join(' ')} canary-echo ${await buffer(req)}`;
      json(
        res,
        status,
        { errors: [{ code: seen, message: seen }] },
        { location: '/elsewhere?canary', 'x-seen': 'canary' },
      );
    };

  test.each(FAILURES)('with status %i as %s, and tells no secret', async (status, code, shown) => {
    const refuse = echo(status);
    const server = await listen((req, res) => {
      if (req.method === 'POST' && !req.headers.authorization) {
        return void res.writeHead(401, { 'www-authenticate': 'Basic' }).end();
      }
      if (req.method === 'POST') return void res.writeHead(202, { location: '/up?canary' }).end();
      return refuse(req, res);
    });
    const credentials = { username: 'me', password: 'canary-password' };
    const pusher = openPusher({ url: server.url, credentials });
    const manifest = { reference: '1', raw, digest, mediaType: mediaTypes.ociIndex };
    for (const work of [() => pusher.putBlob('a', pushed(raw)), () => pusher.putManifest('a', manifest)]) {
      const error = await failure(work());
      expect(error).toMatchObject({ name: 'RegistryError', code, status: shown });
      expect(everythingOf(error)).not.toMatch(/canary|bWU6Y2FuYXJ5/);
    }
  });

  test('where the registry says that it has stored something else', async () => {
    const other = digestOf(Buffer.from('other'));
    const server = await listen((req, res) =>
      req.method === 'POST'
        ? res.writeHead(202, { location: '/up' }).end()
        : res.writeHead(201, { 'docker-content-digest': other }).end(),
    );
    const pusher = openPusher({ url: server.url });
    const manifest = { reference: '1', raw, digest, mediaType: mediaTypes.ociIndex };
    for (const work of [() => pusher.putBlob('a', pushed(raw)), () => pusher.putManifest('a', manifest)]) {
      expect(await failure(work())).toMatchObject({ status: 502, message: expect.stringContaining(`stored ${other}`) });
    }
  });
});

describe('a token for a push', () => {
  /** A registry whose challenge asks for `scope`, and takes a token for any. */
  async function listenWithScope(scope: string) {
    const server: Server = await listen(async (req, res) => {
      if (req.url?.startsWith('/token')) return json(res, 200, { token: 't' });
      if (req.headers.authorization) {
        return void res.writeHead(req.method === 'POST' ? 202 : 201, { location: '/v2/up' }).end();
      }
      const realm = `${server.url}/token`;
      return json(res, 401, {}, { 'www-authenticate': `Bearer realm="${realm}",scope="${scope}"` });
    });
    const scopes = () =>
      server.requests
        .filter(({ url }) => url?.startsWith('/token'))
        .map(({ url }) => new URL(url ?? '', server.url).searchParams.getAll('scope'));
    return { server, scopes };
  }

  test.each([
    ['asks for a push', 'repository:x/a:pull,push', ['repository:x/a:pull,push']],
    ['asks only for a pull', 'repository:user/image:pull', ['repository:a:pull,push']],
    ['asks for nothing', '', ['repository:a:pull,push']],
  ])('is for what the challenge names where that %s', async (_, scope, expected) => {
    const { server, scopes } = await listenWithScope(scope);
    await openPusher({ url: server.url }).putBlob('a', pushed(raw));
    expect(scopes()).toEqual([expected]);
  });

  test('names the source of a mount, too', async () => {
    const { server, scopes } = await listenWithScope('');
    await openPusher({ url: server.url }).mountBlob('a', digest, { from: 'b' });
    expect(scopes()).toEqual([['repository:a:pull,push', 'repository:b:pull']]);
  });

  test('that has ended is renewed within an upload, and the body is opened once more', async () => {
    let tokens = 0;
    const server: Server = await listen(async (req, res) => {
      if (req.url?.startsWith('/token')) return json(res, 200, { token: `t${++tokens}` });
      const wanted = req.method === 'POST' ? 't1' : 't2';
      if (req.headers.authorization !== `Bearer ${wanted}`) {
        return json(res, 401, {}, { 'www-authenticate': `Bearer realm="${server.url}/token"` });
      }
      if (req.method === 'POST') return res.writeHead(202, { location: '/up' }).end();
      return res.writeHead((await buffer(req)).equals(raw) ? 201 : 400).end();
    });
    await openPusher({ url: server.url }).putBlob('a', pushed(raw));
    expect(tokens).toBe(2);
  });
});
