// The console in a real Chromium: every page, in light and dark and on a narrow screen, with the rules of WCAG 2.2 AA that axe-core can check.
import axe from 'axe-core';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
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

const PAGES = [
  ['the overview', () => '/console'],
  ['the list of builds', () => '/console/builds'],
  ['a build', () => `/view/builds/${buildId}`],
  ['the search for an image', () => '/console/images'],
  ['an image', () => '/console/images?image=lab%2Flibrary%2Fapp%3A1'],
  ['the form for an image', () => '/console/new'],
  ['the mirror set-up', () => '/console/mirrors'],
  ['an error', () => '/console/nothing'],
  ['what is kept', () => '/console/storage'],
  ['tokens', () => '/console/tokens'],
  ['rules', () => '/console/rules'],
] as const;

/** One that has succeeded. */
let buildId = '';

describe.skipIf(missing)(`the console${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  let registry: TestRegistry;
  let server: TestServer;
  let browser: Browser;

  beforeAll(async () => {
    registry = await startRegistry();
    const upstreams = { lab: { url: registry.url }, away: { url: 'http://127.0.0.1:1' } };
    server = await startServer({ upstreams });
    await fill();
    // In CI everything runs as root, for whom Chromium has no sandbox.
    browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  }, 120_000);

  afterAll(async () => {
    await browser?.close();
    await server?.close();
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
    for (const path of ['/v2/lab/library/app/manifests/1', ...Array(5).fill('/v2/away/library/app/manifests/1')])
      await server.send('GET', path, { headers: { Host: '127.0.0.1' } });
    const containerFile = Buffer.from('FROM scratch\nLABEL made=here\n').toString('base64');
    const headers = { Host: '127.0.0.1', 'Content-Type': 'application/json' };
    const sent = { headers, body: JSON.stringify({ containerFile, containerPlatform: 'linux/amd64,linux/arm64' }) };
    buildId = JSON.parse(String((await server.send('POST', '/v1alpha2/container', sent)).body)).buildId;
    await server.send('GET', `/v1alpha1/builds/${buildId}/logs`, { headers });
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

  describe.each(Object.entries(SCREENS))('on a %s screen', (_, screen) => {
    test.each(PAGES)('%s can be used by everybody, and does not leave the screen', async (_, path) => {
      const { context, page, faults } = await open(screen);
      await page.goto(path());
      await page.evaluate(axe.source);
      const { violations } = violationsSchema.parse(await page.evaluate(RUN_AXE));
      expect(violations.map(({ id, nodes }) => [id, ...nodes])).toEqual([]);
      expect([await page.evaluate(IS_WIDER), faults]).toEqual([false, []]);
      await context.close();
    });
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
    await page.waitForURL('**/console/new');
    expect(await page.getByRole('heading', { level: 1 }).textContent()).toBe('Made');
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
