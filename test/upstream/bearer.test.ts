// Tokens and credentials: who gets them, how often they are fetched, and that they never show.
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { json, listen, open, type Server } from './server.ts';

const credentials = { username: 'me', password: 'canary-password' };
const basic = `Basic ${Buffer.from('me:canary-password').toString('base64')}`;

interface Tokens {
  readonly answer?: (res: ServerResponse, count: number) => void;
  readonly realm?: (server: Server) => string;
  readonly accepts?: (req: IncomingMessage) => boolean;
}

/** A registry that wants a token of its own. */
async function listenWithTokens({ answer, realm, accepts }: Tokens = {}) {
  const isToken = (req: IncomingMessage) => req.url?.startsWith('/token');
  const tokens = () => server.requests.filter(isToken);
  const server: Server = await listen((req, res) => {
    const count = tokens().length;
    if (isToken(req)) return answer ? answer(res, count) : json(res, 200, { token: `canary-token-${count}` });
    if (accepts ? accepts(req) : req.headers.authorization?.startsWith('Bearer canary-token')) return res.end('{}');
    const where = realm?.(server) ?? `${server.url}/token`;
    const challenge = `Bearer realm="${where}",service="svc, \\"x\\"",scope="repository:a:pull"`;
    return json(res, 401, {}, { 'www-authenticate': challenge });
  });
  return { server, tokens };
}

test('fetches a token with the credentials and keeps it for the scope', async () => {
  const { server, tokens } = await listenWithTokens();
  const lab = open({ lab: { url: server.url, credentials } }).get('lab');
  await lab.getManifest('a', 'b');
  await lab.getManifest('a', 'c');
  expect(tokens()).toHaveLength(1);
  expect(tokens()[0]?.headers.authorization).toBe(basic);
  const query = new URL(tokens()[0]?.url ?? '', server.url).searchParams;
  expect([query.get('service'), query.get('scope')]).toEqual(['svc, "x"', 'repository:a:pull']);
});

test('fetches one token for many who wait', async () => {
  const { server, tokens } = await listenWithTokens();
  const lab = open({ lab: { url: server.url } }).get('lab');
  await Promise.all(Array.from({ length: 10 }, () => lab.getManifest('a', 'b')));
  expect(tokens()).toHaveLength(1);
  expect(tokens()[0]?.headers.authorization).toBeUndefined();
});

test('asks once for a fresh token when the kept one is refused', async () => {
  let valid = 'Bearer canary-token-1';
  const { server, tokens } = await listenWithTokens({ accepts: req => req.headers.authorization === valid });
  const lab = open({ lab: { url: server.url } }).get('lab');
  await lab.getManifest('a', 'b');
  valid = 'Bearer canary-token-2';
  await lab.getManifest('a', 'b');
  expect(tokens()).toHaveLength(2);
});

test('ends with UNAUTHORIZED when every token is refused', async () => {
  const { server, tokens } = await listenWithTokens({ accepts: () => false });
  const error = await open({ lab: { url: server.url, credentials } })
    .get('lab')
    .getManifest('a', 'b')
    .catch(e => e);
  expect(error).toMatchObject({ code: 'UNAUTHORIZED', status: 401 });
  expect(String(error.stack)).not.toContain('canary');
  expect([tokens().length, server.requests.length]).toEqual([1, 3]);
});

test('fetches a token anew when its time is over', async () => {
  const answer = (res: ServerResponse, count: number) =>
    json(res, 200, { access_token: `canary-token-${count}`, expires_in: 0.001 });
  const { server, tokens } = await listenWithTokens({ answer });
  const lab = open({ lab: { url: server.url } }).get('lab');
  await lab.getManifest('a', 'b');
  await vi.waitFor(async () => {
    await lab.getManifest('a', 'b');
    expect(tokens().length).toBeGreaterThan(1);
  });
});

test('sends nothing to a realm of another domain', async () => {
  const thief = await listen((_, res) => json(res, 200, { token: 'x' }));
  const { server } = await listenWithTokens({ realm: () => thief.url.replace('127.0.0.1', 'localhost') });
  const work = open({ lab: { url: server.url, credentials } })
    .get('lab')
    .getManifest('a', 'b');
  await expect(work).rejects.toMatchObject({ status: 502, message: expect.stringContaining('realm') });
  expect(thief.requests).toHaveLength(0);
});

test.each<[string, (res: ServerResponse) => void, object]>([
  ['a redirect', res => res.writeHead(307, { location: '/token2' }).end(), { status: 502 }],
  ['no token', res => json(res, 200, {}), { status: 502 }],
  ['a token that is no header', res => json(res, 200, { token: 'canary\r\nx: y' }), { status: 502 }],
  ['text', res => res.end('canary-token'), { status: 502 }],
  ['a limit', res => json(res, 429, {}, { 'retry-after': '9' }), { status: 429, retryAfterSeconds: 9 }],
  ['a refusal', res => json(res, 401, { details: 'canary' }), { code: 'UNAUTHORIZED' }],
])('fails where the token server answers with %s', async (_, answer, expected) => {
  const { server, tokens } = await listenWithTokens({ answer });
  const error = await open({ lab: { url: server.url, credentials } })
    .get('lab')
    .getManifest('a', 'b')
    .catch(e => e);
  expect(error).toMatchObject({ name: 'RegistryError', ...expected });
  expect(`${error.stack}${error.cause}`).not.toContain('canary');
  expect(tokens()).toHaveLength(1);
});

/** A registry that wants basic credentials. */
async function listenWithBasic() {
  return listen((req, res) =>
    req.headers.authorization === basic ? res.end('{}') : json(res, 401, {}, { 'www-authenticate': 'Basic realm="x"' }),
  );
}

test('answers a basic challenge, and says what is missing without credentials', async () => {
  const server = await listenWithBasic();
  const upstreams = open({ lab: { url: server.url, credentials }, bare: { url: server.url } });
  await upstreams.get('lab').getManifest('a', 'b');
  await expect(upstreams.get('bare').getManifest('a', 'b')).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
});

test.each(['auths', 'credHelpers', 'credsStore'])('takes credentials from %s of the docker config', async kind => {
  const server = await listenWithBasic();
  const { host } = new URL(server.url);
  const folder = await mkdtemp(join(tmpdir(), 'veneer-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const helper = join(folder, 'docker-credential-canary');
  const secret = JSON.stringify({ Username: 'me', Secret: 'canary-password' });
  await writeFile(helper, `#!/bin/sh\nread host\n[ "$host" = "${host}" ] && echo '${secret}'\n`);
  await chmod(helper, 0o755);
  vi.stubEnv('PATH', `${folder}${delimiter}${process.env.PATH}`);
  onTestFinished(() => {
    vi.unstubAllEnvs();
  });
  const configs: Record<string, unknown> = {
    auths: { auths: { [host]: { auth: basic.slice('Basic '.length) } } },
    credHelpers: { credHelpers: { [host]: 'canary' } },
    credsStore: { auths: { [host]: {} }, credsStore: 'canary' },
  };
  const dockerConfigPath = join(folder, 'config.json');
  await writeFile(dockerConfigPath, JSON.stringify(configs[kind]));
  await open({ lab: { url: server.url } }, { dockerConfigPath })
    .get('lab')
    .getManifest('a', 'b');
  expect(server.requests).toHaveLength(2);
});
