// What the console has for who looks after Veneer: rules, what is kept, and tokens, which others see only as far as they are theirs.
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { createAccessTokens } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { basic } from '../access/fixture.ts';
import { makeIndex } from '../conformance/documents.ts';
import { startApp, type TestApp } from '../support/app.ts';
import { ADMIN, type GuardedServer, startGuarded } from './callers.ts';

const HTML = { Accept: 'text/html' };
const READER = basic('reader', 'password');
const HOST = '127.0.0.1:8080';

let server: GuardedServer | undefined;
let app: TestApp | undefined;

afterEach(async () => {
  await server?.close();
  await app?.close();
  server = undefined;
  app = undefined;
});

async function read({ send }: Pick<GuardedServer, 'send'>, path: string, Authorization: string): Promise<string> {
  const { status, body } = await send('GET', path, { headers: { ...HTML, Host: HOST, Authorization } });
  expect([path, status]).toEqual([path, 200]);
  return body.toString();
}

/** Sends the form of `page` that has the id, as the browser that was given the page. */
async function revoke(guarded: GuardedServer, Authorization: string, { path, id }: { path: string; id: string }) {
  const headers = { ...HTML, Host: HOST, Authorization };
  const answer = await guarded.send('GET', '/console/tokens', { headers });
  const [cookie = ''] = (answer.headers['set-cookie'] ?? []).map(each => each.split(';', 1)[0] ?? '');
  const form = cookie.slice(cookie.indexOf('=') + 1);
  const type = { 'Content-Type': 'application/x-www-form-urlencoded', 'Sec-Fetch-Site': 'same-origin' };
  const body = new URLSearchParams({ form, id }).toString();
  return guarded.send('POST', path, { headers: { ...headers, ...type, Cookie: cookie }, body });
}

test('rules are for who looks after Veneer, with what each changes and how often it did', async () => {
  const rules = [
    { name: 'ca', match: { image: '**/library/app' }, env: { SSL: 'x' }, labels: { a: 'secret-value' } },
    { name: 'other', match: { image: 'quay.io/**', platform: 'linux/arm64' }, pinned: 'refused', user: '1000' },
  ];
  app = await startApp({ config: { rules } });
  app.putImage();
  const { registry } = app;
  await app.configure({ rules, upstreams: { lab: { url: registry.url } } });
  await app.head('lab/library/app', '1');
  const page = await (await app.request('/console/rules', { headers: HTML })).text();
  const row = page.split('<tr').find(each => each.includes('<strong>ca</strong>')) ?? '';
  expect(row).toContain('env, labels');
  expect(row).toMatch(/data-name="Requests">1</);
  expect(page.split('<tr').find(each => each.includes('<strong>other'))).toContain(
    '<span class="chip warn">refused</span>',
  );
  expect(page).not.toMatch(/secret-value/);
});

test('who may not administer sees no rules and no cache, and does not see them in the menu', async () => {
  server = await startGuarded();
  const overview = await read(server, '/console', READER);
  expect(overview).not.toContain('/console/rules');
  expect(await read(server, '/console', ADMIN)).toContain('/console/rules');
  const { status } = await server.send('GET', '/console/rules', {
    headers: { ...HTML, Host: HOST, Authorization: READER },
  });
  expect(status).toBe(403);
  expect(await read(server, '/console/storage', READER)).not.toContain('<h2>Cache</h2>');
  expect(await read(server, '/console/storage', ADMIN)).toContain('<h2>Cache</h2>');
});

test('hosted repositories are shown with their tags to anyone who may pull them', async () => {
  server = await startGuarded();
  const { mediaType, raw } = makeIndex([]);
  const headers = { Host: HOST, Authorization: ADMIN, 'Content-Type': mediaType };
  for (const name of ['local/app', 'local/secret'])
    await server.send('PUT', `/v2/${name}/manifests/v1`, { headers, body: raw });
  const all = await read(server, '/console/storage', ADMIN);
  expect([all.includes('local/app'), all.includes('local/secret'), all.includes('<code>v1</code>')]).toEqual([
    true,
    true,
    true,
  ]);
  const own = await read(server, '/console/storage', READER);
  expect([own.includes('local/app'), own.includes('local/secret')]).toEqual([true, false]);
});

test('access tokens are listed without their secrets, and revoked, by who looks after Veneer alone', async () => {
  server = await startGuarded();
  const records = createSqliteStore({ path: join(server.directory, 'data', 'records.db'), now: () => new Date() });
  const tokens = createAccessTokens({ records, now: () => new Date() });
  const permissions = [{ repositories: ['local/**'], allow: ['pull'] }] as const;
  const { token, secret } = await tokens.issue({ name: '<script>alert(1)</script>', permissions, ttlMs: 3_600_000 });
  await records.close();
  const page = await read(server, '/console/tokens', ADMIN);
  expect(page).toContain(token.id);
  expect(page).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  expect([page.includes(secret), page.includes('<script>alert')]).toEqual([false, false]);
  expect(await read(server, '/console/tokens', READER)).not.toContain(token.id);
  const asked = { path: '/console/tokens/access/revoke', id: token.id };
  expect((await revoke(server, READER, asked)).status).toBe(403);
  const login = { headers: { Host: HOST, Authorization: basic('x', secret) } };
  expect((await server.send('GET', '/v2/', login)).status).toBe(200);
  const done = await revoke(server, ADMIN, asked);
  expect([done.status, done.headers.location]).toEqual([303, '/console/tokens']);
  expect((await server.send('GET', '/v2/', login)).status).toBe(401);
  expect((await revoke(server, ADMIN, asked)).status).toBe(404);
});
