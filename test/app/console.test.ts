// The console through the whole app: who sees what, and that nothing of what others have written does anything in a browser.
import { afterEach, describe, expect, test } from 'vitest';
import { basic } from '../access/fixture.ts';
import { HOST, startApp, type TestApp } from '../support/app.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { ADMIN, startGuarded } from './callers.ts';

const HTML = { Accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

let server: TestServer | undefined;
let app: TestApp | undefined;

afterEach(async () => {
  await server?.close();
  await app?.close();
  server = undefined;
  app = undefined;
});

async function read(path: string, headers: Readonly<Record<string, string>> = {}): Promise<string> {
  if (!server) throw new Error('no server');
  const { status, body } = await server.send('GET', path, { headers: { Host: HOST, ...HTML, ...headers } });
  expect([path, status]).toEqual([path, 200]);
  return body.toString();
}

describe('the root', () => {
  test('leads browsers to the console, and is to all others what it was', async () => {
    server = await startServer();
    const ask = async (Accept: string) => {
      const sent = await server?.send('GET', '/', { headers: { Host: HOST, Accept } });
      return [sent?.status, sent?.headers.location];
    };
    expect(await ask(HTML.Accept)).toEqual([302, '/console']);
    expect(await ask('*/*')).toEqual([404, undefined]);
    expect(await ask('application/json')).toEqual([404, undefined]);
  });

  test('leads nowhere where there is no console', async () => {
    server = await startServer({ console: false });
    for (const path of ['/', '/console'])
      expect((await server.send('GET', path, { headers: { Host: HOST, ...HTML } })).status).toBe(404);
  });
});

describe('a page', () => {
  test('may load and send to the service alone, is not framed, and is kept nowhere', async () => {
    server = await startServer();
    const { headers, body } = await server.send('GET', '/console', { headers: { Host: HOST, ...HTML } });
    expect(headers).toMatchObject({
      'content-security-policy': POLICY,
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'DENY',
      'referrer-policy': 'same-origin',
      'cross-origin-opener-policy': 'same-origin',
      'content-type': 'text/html; charset=UTF-8',
    });
    const page = body.toString();
    expect(page).not.toMatch(/<style|\sstyle=|\son\w+=|<script(?! src="\/console\/assets\/)|javascript:/i);
    for (const [, address = ''] of page.matchAll(/(?:src|href)="(\/console\/assets\/[^"]+)"/g)) {
      const asset = await server.send('GET', address, { headers: { Host: HOST } });
      expect([address, asset.status, asset.headers['cache-control']]).toEqual([
        ...[address, 200],
        'public, max-age=31536000, immutable',
      ]);
    }
  });

  test('shows what runs, and how its upstreams answer', async () => {
    app = await startApp();
    app.putImage();
    await app.head('lab/library/app', '1');
    await app.request('/v2/lab/library/none/manifests/1');
    app.registry.intercept((_, response) => response.writeHead(503).end() && true);
    await app.request('/v2/lab/library/app/manifests/2');
    const page = await (await app.request('/console', { headers: HTML })).text();
    expect(page).toContain('<dt>Version</dt><dd>0.0.0</dd>');
    expect(page).toMatch(/Pulls by tag<\/dt><dd><div class="figure">1</);
    const row = page.split('<tr>').find(each => each.includes('<strong>lab</strong>')) ?? '';
    expect(row).toContain('<span class="chip warn">fails</span>');
    expect(row).toContain('lab: library/app/manifests/2: status 503 (UNKNOWN)');
    expect(page.split('<tr>').find(each => each.includes('<strong>docker.io</strong>'))).toContain('not contacted yet');
  });
});

describe('a caller', () => {
  test('sees where the data are and what upstreams there are with the right to administer alone', async () => {
    server = await startGuarded({ upstreams: { secretlab: { url: 'http://127.0.0.1:1' } } });
    const admin = await read('/console', { Authorization: ADMIN });
    expect(admin).toContain('secretlab');
    expect(admin).toContain(server.directory);
    expect(admin).toContain('user admin');
    for (const headers of [{}, { Authorization: basic('reader', 'password') }]) {
      const page = await read('/console', headers);
      expect(page).not.toContain('secretlab');
      expect(page).not.toContain(server.directory);
      expect(page).toContain('<dt>Version</dt>');
    }
  });
});
