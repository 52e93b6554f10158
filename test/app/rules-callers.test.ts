// Rules for some callers: each gets what the rules make of an image for it, however it shows who it is, and a build of ours gets images as
// they are.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createAccessTokens, type NewAccessToken } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { PLATFORMS } from '../support/app.ts';
import { type GeneratedImage, generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { codeOf, startServer, type TestServer } from '../support/server.ts';

const HOUR_MS = 3_600_000;
const NAME = 'lab/library/app';
const SCOPE = `repository:${NAME}:pull`;

let registry: TestRegistry;
let directory: string;
let server: TestServer;
let image: GeneratedImage;

beforeEach(async () => {
  registry = await startRegistry();
  image = generateImage({ seed: 1, platforms: PLATFORMS, layers: 1, family: 'oci' });
  const contents = [...image.content].map(([digest, content]) => ({
    ...content,
    ...(digest === image.root.digest && { tags: ['1'] }),
  }));
  registry.put('library/app', contents);
  directory = await mkdtemp(join(tmpdir(), 'veneer-rules-'));
  await writeFile(join(directory, 'htpasswd'), htpasswdOf({ ci: 'password', dev: 'password' }));
});

afterEach(async () => {
  await server.close();
  await registry.close();
  await rm(directory, { recursive: true });
});

async function start(...rules: readonly object[]): Promise<void> {
  const grants = [{ anyone: true, repositories: ['lab/**'], allow: ['pull'] }];
  const access = { htpasswd: join(directory, 'htpasswd'), grants };
  server = await startServer({ upstreams: { lab: { url: registry.url } }, access, rules });
}

/** Beside the running server, as the command and builds do. */
async function issue(token: Partial<NewAccessToken>): Promise<string> {
  const now = () => new Date();
  const records = createSqliteStore({ path: join(server.directory, 'data', 'records.db'), now });
  const permissions = [{ repositories: ['**'], allow: ['pull' as const] }];
  const { secret } = await createAccessTokens({ records, now }).issue({
    ...{ name: 'a token', permissions, ttlMs: HOUR_MS },
    ...token,
  });
  await records.close();
  return secret;
}

async function exchange(authorization?: string): Promise<string> {
  const query = new URLSearchParams({ service: 'veneer', scope: SCOPE });
  const { body } = await server.send('GET', `/token?${query}`, { headers: headersOf(authorization) });
  return `Bearer ${JSON.parse(body.toString()).token}`;
}

async function isChanged(authorization?: string): Promise<boolean> {
  const path = `/v2/${NAME}/manifests/1`;
  const { status, headers } = await server.send('HEAD', path, { headers: headersOf(authorization) });
  expect(status).toBe(200);
  return headers['docker-content-digest'] !== image.root.digest;
}

function headersOf(authorization: string | undefined) {
  return authorization === undefined ? {} : { Authorization: authorization };
}

/** With the credentials themselves, and with a bearer token that they are exchanged for. */
async function areChanged(authorization: string): Promise<readonly boolean[]> {
  return [await isChanged(authorization), await isChanged(await exchange(authorization))];
}

describe('a rule for', () => {
  test('some callers is for them alone, by each way to show who they are', async () => {
    await start({ name: 'ci', match: { image: '**', caller: ['ci', 'token:*'] }, env: { RULED: 'yes' } });
    expect(await areChanged(basic('ci', 'password'))).toEqual([true, true]);
    expect(await areChanged(basic('token', await issue({})))).toEqual([true, true]);
    expect(await areChanged(basic('dev', 'password'))).toEqual([false, false]);
    expect(await isChanged()).toBe(false);
  });

  test('who has no name is for nobody else', async () => {
    await start({ name: 'guests', match: { image: '**', caller: 'anonymous' }, env: { RULED: 'yes' } });
    expect(await isChanged()).toBe(true);
    expect(await isChanged(await exchange())).toBe(true);
    expect(await areChanged(basic('dev', 'password'))).toEqual([false, false]);
  });

  test('some callers is in their tokens, which serve anyone who has them', async () => {
    await start({ name: 'ci', match: { image: '**', caller: 'ci' }, env: { RULED: 'yes' } });
    const submit = async (authorization: string) => {
      const body = JSON.stringify({ containerImage: `${NAME}:1` });
      const headers = { Authorization: authorization, 'Content-Type': 'application/json' };
      const answer = await server.send('POST', '/v1alpha2/container', { headers, body });
      return JSON.parse(answer.body.toString());
    };
    const ci = await submit(basic('ci', 'password'));
    const dev = await submit(basic('dev', 'password'));
    expect([ci.targetDigest === image.root.digest, dev.targetDigest]).toEqual([false, image.root.digest]);
    const path = `/v2/wt/${ci.requestId}/library/app/manifests/1`;
    const headers = { Authorization: basic('dev', 'password') };
    expect((await server.send('HEAD', path, { headers })).headers['docker-content-digest']).toBe(ci.targetDigest);
  });
});

describe('a build of ours', () => {
  const rule = { name: 'all', match: { image: '**' }, env: { RULED: 'yes' }, pinned: 'refused' };

  test('gets images as they are, with its token and with a bearer token for it', async () => {
    await start(rule);
    const own = basic('token', await issue({ isBuild: true }));
    expect(await areChanged(own)).toEqual([false, false]);
    expect(await areChanged(basic('token', await issue({})))).toEqual([true, true]);
  });

  test('pulls by the digest of the upstream, which is refused to all others', async () => {
    await start(rule);
    const path = `/v2/${NAME}/manifests/${image.root.digest}`;
    const own = basic('token', await issue({ isBuild: true }));
    for (const authorization of [own, await exchange(own)]) {
      expect((await server.send('GET', path, { headers: { Authorization: authorization } })).status).toBe(200);
    }
    const other = await server.send('GET', path, { headers: { Authorization: basic('token', await issue({})) } });
    expect([other.status, codeOf(other)]).toEqual([403, 'DENIED']);
  });
});
