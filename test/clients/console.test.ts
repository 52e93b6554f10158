// The console in a real Chromium: every page, in light and dark and on a narrow screen, with the rules of WCAG 2.2 AA that axe-core can check.
import axe from 'axe-core';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type GuardedServer, startGuarded } from '../app/callers.ts';
import { makeTar } from '../support/app.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { startServer, type TestServer } from '../support/server.ts';
import { findMissingTools } from './support/clients.ts';

const missing = findMissingTools(['chromium']);

const SCREENS = {
  light: { colorScheme: 'light', viewport: { width: 1280, height: 800 } },
  dark: { colorScheme: 'dark', viewport: { width: 1280, height: 800 } },
  narrow: { colorScheme: 'light', viewport: { width: 360, height: 740 } },
} as const;

const violationsSchema = z.object({
  violations: z.array(
    z.object({ id: z.string(), nodes: z.array(z.object({ html: z.string(), failureSummary: z.string().optional() })) }),
  ),
});

// Evaluated in the page, which has another global scope.
const RUN_AXE = `axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] })`;
const IS_WIDER = 'document.documentElement.scrollWidth > document.documentElement.clientWidth';

const LOCAL = { Host: '127.0.0.1' };
const base64 = (text: string) => Buffer.from(text).toString('base64');

const PAGES = [
  ['the overview', () => '/console'],
  ['the list of builds', () => '/console/builds'],
  ['a build', () => `/view/builds/${ids.build}`],
  ['a build that failed', () => `/view/builds/${ids.failed}`],
  ['a mirror', () => `/view/mirrors/${ids.mirror}`],
  ['a request', () => `/view/containers/${ids.request}`],
  ['an inspected image', () => '/view/inspect?image=lab%2Flibrary%2Fapp%3A1'],
  ['the search for an image', () => '/console/images'],
  ['an image', () => '/console/images?image=lab%2Flibrary%2Fapp%3A1'],
  ['the form for an image', () => '/console/new'],
  ['the mirror set-up', () => '/console/mirrors'],
  ['an error', () => '/console/nothing'],
  ['what is kept', () => '/console/storage'],
  ['tokens', () => '/console/tokens'],
  ['rules', () => '/console/rules'],
] as const;

/** Of what fills the pages. */
const ids = { build: '', failed: '', mirror: '', request: '' };

describe.skipIf(missing)(`the console${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  let registry: TestRegistry;
  let server: TestServer;
  /** With users. */
  let guarded: GuardedServer;
  let browser: Browser;

  beforeAll(async () => {
    registry = await startRegistry();
    const upstreams = { lab: { url: registry.url }, away: { url: 'http://127.0.0.1:1' } };
    server = await startServer({ upstreams });
    guarded = await startGuarded();
    await fill();
    // In CI everything runs as root, for whom Chromium has no sandbox.
    browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  }, 120_000);

  afterAll(async () => {
    await browser?.close();
    await server?.close();
    await guarded?.close();
    await registry?.close();
  });

  /** Something of all that pages show. */
  async function fill(): Promise<void> {
    const { root, content } = generateImage({
      seed: 1,
      platforms: ['linux/amd64', 'linux/arm64'],
      layers: 2,
      family: 'oci',
    });
    const documents = [...content].map(([digest, each]) => ({
      ...each,
      ...(digest === root.digest && { tags: ['1'] }),
    }));
    registry.put('library/app', documents);
    registry.put('library/held', documents);
    for (const path of ['/v2/lab/library/app/manifests/1', ...Array(5).fill('/v2/away/library/app/manifests/1')])
      await server.send('GET', path, { headers: { Host: '127.0.0.1' } });
    const made = await submit({
      ...{ containerFile: base64('FROM scratch\nLABEL made=here\n'), containerPlatform: 'linux/amd64,linux/arm64' },
    });
    const failed = await submit({
      containerFile: base64('FROM lab/library/app:1\nCOPY --from=lab/library/app:1 /none /\n'),
    });
    const mirror = await submit({ containerImage: 'lab/library/app:1', mirror: true, buildRepository: 'local/copies' });
    const request = await submit({ containerImage: 'lab/library/app:1', containerConfig: { env: ['A=b'] } });
    Object.assign(ids, {
      build: made.buildId,
      failed: failed.buildId,
      mirror: mirror.buildId,
      request: request.requestId,
    });
    for (const [kind, id] of [
      ['builds', ids.build],
      ['builds', ids.failed],
      ['mirrors', ids.mirror],
    ])
      await server.send('GET', `/v1alpha1/${kind}/${id}/logs`, { headers: LOCAL });
  }

  async function submit(body: object): Promise<{ readonly requestId: string; readonly buildId: string }> {
    const headers = { ...LOCAL, 'Content-Type': 'application/json' };
    const { status, body: answer } = await server.send('POST', '/v1alpha2/container', {
      headers,
      body: JSON.stringify(body),
    });
    expect(status, String(answer)).toBe(200);
    return JSON.parse(String(answer));
  }

  async function open(
    options: Parameters<Browser['newContext']>[0] = {},
  ): Promise<{ readonly context: BrowserContext; readonly page: Page; readonly faults: readonly string[] }> {
    const context = await browser.newContext({ baseURL: `http://127.0.0.1:${server.port}`, ...options });
    const page = await context.newPage();
    const faults: string[] = [];
    // What the policy of a page refuses is said here, too.
    page.on('console', message => {
      const isStatus = message.text().startsWith('Failed to load resource: the server responded with a status of 404');
      if (message.type() === 'error' && !isStatus) faults.push(message.text());
    });
    page.on('pageerror', error => faults.push(error.message));
    return { context, page, faults };
  }

  describe('on each screen', () => {
    test.each(PAGES)('%s can be used by everybody, and does not leave the screen', async (_, path) => {
      const { context, page, faults } = await open();
      await page.goto(path());
      await check(page, faults);
      await context.close();
    });

    test('so can the log-in, also after a wrong password', async () => {
      const { context, page, faults } = await open({ baseURL: `http://127.0.0.1:${guarded.port}` });
      await page.goto('/console/tokens');
      expect(new URL(page.url()).pathname).toBe('/console/login');
      await check(page, faults);
      await page.getByLabel('User').fill('admin');
      await page.getByLabel('Password').fill('wrong');
      await page.getByRole('button', { name: 'Log in' }).click();
      expect(await page.getByRole('alert').textContent()).toContain('wrong');
      await check(
        page,
        faults.filter(fault => !fault.includes('401')),
      );
      await page.getByLabel('User').fill('admin');
      await page.getByLabel('Password').fill('password');
      await page.getByRole('button', { name: 'Log in' }).click();
      await page.waitForURL('**/console/tokens');
      await check(
        page,
        faults.filter(fault => !fault.includes('401')),
      );
      await context.close();
    });

    test('so can what a form has made', async () => {
      const { context, page, faults } = await open();
      await page.goto('/console/new');
      await page.getByLabel('Image', { exact: true }).fill('lab/library/app:1');
      await page.getByLabel('Environment').first().fill('SCREEN=any');
      await page.getByRole('button', { name: 'Augment' }).click();
      await page.getByRole('heading', { name: 'Made' }).waitFor();
      await check(page, faults);
      await context.close();
    });
  });

  /** On all screens, one after the other. */
  async function check(page: Page, faults: readonly string[]): Promise<void> {
    await page.evaluate(axe.source);
    for (const [name, { colorScheme, viewport }] of Object.entries(SCREENS)) {
      // Without transitions from the colours of the last one.
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.setViewportSize(viewport);
      const { violations } = violationsSchema.parse(await page.evaluate(RUN_AXE));
      expect([name, violations.map(({ id, nodes }) => [id, ...nodes])]).toEqual([name, []]);
      expect([name, await page.evaluate(IS_WIDER), faults]).toEqual([name, false, []]);
    }
  }

  test('the log of a build grows in its page, which becomes that of the ended build', async () => {
    const asked = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    registry.intercept(({ method, url = '' }, response) => {
      if (method !== 'GET' || !url.startsWith('/v2/library/held/blobs/')) return false;
      asked.resolve();
      void released.promise.then(() => response.writeHead(404).end());
      return true;
    });
    const containerFile = base64('FROM lab/library/held:1\nCOPY --from=lab/library/held:1 /none /\n');
    const { buildId } = await submit({ containerFile });
    await asked.promise;
    const { context, page, faults } = await open();
    await page.goto(`/view/builds/${buildId}`);
    const log = page.locator('#log');
    await expect.poll(() => log.textContent()).toContain('FROM');
    expect(await page.getByText('running', { exact: true }).count()).toBeGreaterThan(0);
    const before = (await log.textContent()) ?? '';
    released.resolve();
    await page.getByText('failed', { exact: true }).first().waitFor();
    const after = (await log.textContent()) ?? '';
    expect(after.length).toBeGreaterThan(before.length);
    expect(faults).toEqual([]);
    await context.close();
  });

  test('a button copies what is beside it, or selects it where a browser does not let it copy', async () => {
    const { context, page } = await open({ permissions: ['clipboard-read', 'clipboard-write'] });
    await page.goto('/console/mirrors');
    const block = page.locator('.copy').first();
    const wanted = await block.locator('pre').textContent();
    await block.getByRole('button').click();
    await expect.poll(() => block.getByRole('button').textContent()).toBe('Copied');
    expect(await page.evaluate('navigator.clipboard.readText()')).toBe(wanted);
    expect(await page.locator('#announce').textContent()).toBe('Copied');
    await context.close();

    const other = await open();
    await other.page.addInitScript("Object.defineProperty(navigator, 'clipboard', { value: undefined })");
    await other.page.goto('/console/mirrors');
    await other.page.locator('.copy').first().getByRole('button').click();
    await expect.poll(() => other.page.locator('.copy button').first().textContent()).toBe('Selected');
    expect(await other.page.evaluate('getSelection().toString().trim()')).toBe(wanted?.trim());
    await other.context.close();
  });

  test('a build context is chosen as a file', async () => {
    const { context, page, faults } = await open({ javaScriptEnabled: false });
    await page.goto('/console/new');
    await page.getByLabel('Containerfile').fill('FROM scratch\nCOPY hello /\n');
    const buffer = await makeTar('hello', 'from a file');
    await page.getByLabel('Context').setInputFiles({ name: 'context.tar', mimeType: 'application/x-tar', buffer });
    await page.getByRole('button', { name: 'Build' }).click();
    await page.getByRole('heading', { name: 'Made' }).waitFor();
    const id = (await page.getByRole('link', { name: /^bd-/ }).textContent()) ?? '';
    await server.send('GET', `/v1alpha1/builds/${id}/logs`, { headers: LOCAL });
    const record = await server.send('GET', `/v1alpha1/builds/${id}`, { headers: LOCAL });
    expect(JSON.parse(String(record.body))).toMatchObject({ status: 'succeeded' });
    expect(faults).toEqual([]);
    await context.close();
  });

  test('pages are whole without scripts', async () => {
    const { context, page } = await open({ javaScriptEnabled: false });
    await page.goto('/');
    expect(await page.getByRole('heading', { level: 1 }).textContent()).toBe('Overview');
    expect(await page.getByRole('cell', { name: 'answers' }).count()).toBeGreaterThan(0);
    await context.close();
  });

  test('an image is made by keyboard alone, and without scripts', async () => {
    const { context, page } = await open({ javaScriptEnabled: false });
    await page.goto('/console/new');
    // The first stop leads past the menu.
    await page.keyboard.press('Tab');
    expect(await page.locator(':focus').textContent()).toBe('Skip to the content');
    await page.getByLabel('Image', { exact: true }).focus();
    await page.keyboard.type('lab/library/app:1');
    await page.keyboard.press('Tab');
    await page.keyboard.type('MADE=here');
    await page.getByRole('button', { name: 'Augment' }).focus();
    await page.keyboard.press('Enter');
    // The answer has the address of the form.
    await page.getByRole('heading', { level: 1, name: 'Made' }).waitFor();
    expect(await page.locator('pre').first().textContent()).toMatch(
      /^docker run --rm 127\.0\.0\.1:\d+\/wt\/[0-9a-f]{24}\//,
    );
    await context.close();
  });

  test('the overview stays current while it is open', async () => {
    const { context, page, faults } = await open();
    await page.goto('/console');
    const pulls = page.locator('.tile', { hasText: 'Pulls by tag' }).locator('.figure');
    const before = Number(await pulls.textContent());
    await server.send('GET', '/v2/lab/library/app/manifests/1', { headers: { Host: '127.0.0.1' } });
    await expect.poll(() => pulls.textContent()).toBe(String(before + 1));
    expect(faults).toEqual([]);
    await context.close();
  });
});
