// Builds in the console: their list, their pages, and what may be done there.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const HTML = { Accept: 'text/html' };
const HOSTILE = '<script>alert(1)</script>';

let app: BuildApp;

beforeEach(async () => {
  app = await startBuildApp();
});

afterEach(() => app.close());

async function page(path: string): Promise<string> {
  const response = await app.request(path, { headers: HTML });
  expect([path, response.status]).toEqual([path, 200]);
  return response.text();
}

/** Sends the form of a page whose action ends so, as a browser does. */
async function send(path: string, action: string): Promise<Response> {
  const response = await app.request(path, { headers: HTML });
  const [cookie = ''] = response.headers.getSetCookie().map(each => each.split(';', 1)[0] ?? '');
  const form = new RegExp(`action="([^"]*${action})"><input type="hidden" name="form" value="([^"]+)"`);
  const [, target = '', token = ''] = form.exec(await response.text()) ?? [];
  const headers = {
    ...HTML,
    Cookie: cookie,
    'Content-Type': 'application/x-www-form-urlencoded',
    'Sec-Fetch-Site': 'same-origin',
    Origin: 'http://127.0.0.1:8080',
  };
  return app.request(target, { method: 'POST', headers, body: `form=${encodeURIComponent(token)}` });
}

test('a build has its steps by platform, its source and its log, as text', async () => {
  const containerFile = base64(`FROM ${app.base}\nLABEL made="${HOSTILE}"\n`);
  const { buildId } = await app.build({ containerFile, containerPlatform: 'linux/amd64,linux/arm64' });
  await app.ended(buildId);
  const shown = await page(`/view/builds/${buildId}`);
  expect(shown).toContain('<span class="chip ok">succeeded</span>');
  for (const platform of ['linux/amd64', 'linux/arm64'])
    expect(shown).toMatch(
      new RegExp(`data-name="Platform">${platform}</td><td[^>]*><span class="chip ok">done</span>`),
    );
  expect(shown).toContain('docker pull 127.0.0.1:8080/local/builds@sha256:');
  expect(shown).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  expect(shown).not.toContain(HOSTILE);
  const log = await app.request(`/view/builds/${buildId}/log`, { headers: { Accept: 'text/plain' } });
  expect([log.headers.get('content-type'), await log.text()]).toEqual([
    'text/plain; charset=utf-8',
    expect.stringContaining('succeeded: local/builds'),
  ]);
});

test('the list has builds and copies, and those of one state', async () => {
  const { buildId } = await app.build();
  await app.ended(buildId);
  const { buildId: mirror } = await app.build({
    containerImage: app.base,
    mirror: true,
    buildRepository: 'local/mirrors',
  });
  await app.ended(mirror);
  const all = await page('/console/builds');
  expect(all).toContain(`href="/view/builds/${buildId}">`);
  expect(all).toContain(`href="/view/mirrors/${mirror}">`);
  expect(await page('/console/builds?status=failed')).toContain('None visible to you.');
  expect((await app.request('/console/builds?status=odd', { headers: HTML })).status).toBe(400);
});

test('a build that continues is cancelled by its form, and tried again by another', async () => {
  const held = app.holdBase();
  const { buildId } = await app.build();
  await held.asked;
  const path = `/view/builds/${buildId}`;
  const going = await page(path);
  expect(going).toContain(`data-follow="${path}/log"`);
  expect(going).toContain('data-live="2"');
  const cancelled = await send(path, '/cancel');
  held.release();
  expect([cancelled.status, cancelled.headers.get('location')]).toEqual([303, path]);
  expect(await page(path)).toContain('<span class="chip quiet">cancelled</span>');
  const retried = await send(path, '/retry');
  expect(retried.headers.get('location')).toBe(path.replace(/_1$/, '_2'));
  await app.ended(buildId.replace(/_1$/, '_2'));
  const done = await page(path.replace(/_1$/, '_2'));
  expect(done).toContain('<span class="chip ok">succeeded</span>');
  expect(done).not.toMatch(/data-follow|action="[^"]*\/(?:cancel|retry)"/);
});

test('a form of no page of ours changes nothing', async () => {
  const held = app.holdBase();
  const { buildId } = await app.build();
  await held.asked;
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded', 'Sec-Fetch-Site': 'same-origin' };
  const path = `/view/builds/${buildId}`;
  expect((await app.request(`${path}/cancel`, { method: 'POST', headers, body: 'form=x' })).status).toBe(403);
  expect(await page(path)).toContain('<span class="chip info">running</span>');
  held.release();
  await app.ended(buildId);
});
