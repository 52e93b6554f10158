// Secrets: no password, token or signed address is in an error, however deep, of whatever way it fails.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { pino } from 'pino';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { everythingOf, failure, json, listen, lookupAt, open, type Server } from './server.ts';

const DIGEST = digestOf(Buffer.from('x'));
const credentials = [
  { username: 'me', password: 'canary-password' },
  { username: 'me', identityToken: 'canary-identity' },
];
const SECRETS = ['canary', Buffer.from('me:canary').toString('base64').slice(0, 11)];

type Answer = (req: IncomingMessage, res: ServerResponse) => void;

/** Sends back all that it got, as a careless or curious upstream does. */
function echo(status: number, type = 'application/json'): Answer {
  return (req, res) => {
    const seen = `${req.url} ${req.rawHeaders.join(' ')} canary-echo`;
    const errors = [{ code: seen, message: seen, detail: seen }];
    res.writeHead(status, { 'content-type': type, 'x-seen': seen, etag: seen, location: `http://x.test/?${seen}` });
    res.end(type === 'text/plain' ? seen : JSON.stringify({ errors, tags: [{ seen }], manifests: seen, seen }));
  };
}

const redirect = (location: string): Answer => {
  return (_, res) => void res.writeHead(307, { location }).end();
};

const FAILURES: readonly [string, Answer][] = [
  ...[400, 401, 403, 404, 416, 429, 500].map((status): [string, Answer] => [`status ${status}`, echo(status)]),
  ['text in place of JSON', echo(200, 'text/plain')],
  ['JSON of another shape', echo(200, 'application/vnd.oci.image.index.v1+json')],
  ['a redirect to a private address', redirect('http://10.0.0.1/?sig=canary-signature')],
  ['a redirect to a name that is private', redirect('http://me:canary-password@x.test/?sig=canary-signature')],
  ['a redirect to a port that nobody listens on', redirect('http://named.test:1/?sig=canary-signature')],
  ['a redirect to no http', redirect('ftp://x.test/?sig=canary-signature')],
  ['a redirect for ever', redirect('/?sig=canary-signature')],
  ['a redirect to nowhere', redirect('http://canary-signature:canary')],
  ['a broken connection', req => req.socket.destroy()],
  ['no http', req => req.socket.end('canary-answer\r\n\r\n')],
  ['a body that breaks', (_, res) => res.writeHead(200, { 'content-length': 9 }).write('canary', () => res.destroy())],
  ['another realm', (_, res) => json(res, 401, {}, { 'www-authenticate': 'Bearer realm="https://x.test/?canary"' })],
  ['a realm that is none', (_, res) => json(res, 401, {}, { 'www-authenticate': 'Bearer realm="canary"' })],
];

/** A registry that fails in this way once it has been given a token. */
function listenWithToken(answer: Answer, token: Answer): Promise<Server> {
  return listen((req, res) => {
    if (req.url?.startsWith('/token')) return token(req, res);
    if (req.headers.authorization) return answer(req, res);
    const realm = `http://${req.headers.host}/token?key=canary-realm`;
    return json(res, 401, {}, { 'www-authenticate': `Bearer realm="${realm}",scope="canary-scope"` });
  });
}

const giveToken: Answer = (_, res) => json(res, 200, { token: 'canary-token' });

async function failAll(server: Server): Promise<readonly Error[]> {
  const errors: Error[] = [];
  for (const known of credentials) {
    const entry = { url: server.url, credentials: known, redirectHosts: ['named.test:1'] };
    const upstream = open({ lab: entry }, { lookup: lookupAt('127.0.0.1') }).get('lab');
    const calls = [
      () => upstream.getManifest('a', DIGEST),
      () => upstream.openBlob('a', DIGEST).then(({ body }) => buffer(body)),
      () => upstream.listTags('a', {}),
      () => upstream.findReferrers('a', DIGEST).then(found => Promise.reject(new Error(found ? '' : 'none'))),
    ];
    for (const call of calls)
      errors.push(
        await call().then(
          () => new Error('it did not fail'),
          error => error,
        ),
      );
  }
  return errors;
}

function check(errors: readonly Error[]): void {
  const lines: string[] = [];
  const log = pino({}, { write: line => lines.push(line) });
  for (const error of errors) log.error({ err: error });
  expect(errors.some(({ name }) => name === 'RegistryError')).toBe(true);
  for (const secret of SECRETS) {
    expect(errors.map(everythingOf).join('\n')).not.toContain(secret);
    expect(lines.join('')).not.toContain(secret);
  }
}

test.each(FAILURES)('an upstream that answers with %s has none of them quoted', async (_, answer) => {
  check(await failAll(await listenWithToken(answer, giveToken)));
});

test.each(FAILURES)('a token server that answers with %s has none of them quoted', async (_, answer) => {
  check(await failAll(await listenWithToken(answer, answer)));
});

test.each(FAILURES)('a layer address that answers with %s is not quoted', async (_, answer) => {
  const server = await listen(answer);
  const upstreams = open({}, { allowPrivateUrls: true, lookup: lookupAt('127.0.0.1') });
  const work = upstreams.openUrl(new URL(`${server.url}/layer?sig=canary-signature`));
  const error = await work.then(
    ({ body }) => failure(buffer(body).then(() => Promise.reject(new Error('')))),
    e => e,
  );
  const shown = everythingOf(error);
  expect(shown).not.toContain('canary');
});
