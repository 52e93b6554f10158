// The page of an image: what its registry has and what a pull gets, side by side, for anyone who may pull it.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startApp, type TestApp } from '../support/app.ts';

const HTML = { Accept: 'text/html' };
const HOSTILE = '"><script>alert(1)</script>';

let app: TestApp;

beforeEach(async () => {
  const rules = [
    { name: 'labelled', match: { image: '**/library/app' }, labels: { made: HOSTILE }, env: { ADDED: 'yes' } },
    { name: 'elsewhere', match: { image: 'quay.io/**' }, user: '1000' },
  ];
  app = await startApp();
  app.putImage();
  await app.configure({ rules, upstreams: { lab: { url: app.registry.url } } });
});

afterEach(() => app.close());

async function ask(query: Readonly<Record<string, string>>, path = '/console/images') {
  const response = await app.request(`${path}?${new URLSearchParams(query)}`, { headers: HTML });
  return [response.status, await response.text()] as const;
}

test('shows platforms, layers, what rules changed, and how to pull it by digest', async () => {
  const { digest } = await app.head('lab/library/app', '1');
  for (const path of ['/console/images', '/view/inspect']) {
    const [status, page] = await ask({ image: 'lab/library/app:1' }, path);
    expect(status).toBe(200);
    expect(page).toContain('<span class="chip info">augmented</span>');
    expect(page).toContain(`docker pull 127.0.0.1:8080/lab/library/app@${digest}`);
    for (const platform of ['linux/amd64', 'linux/arm64', 'linux/arm/v7']) expect(page).toContain(`>${platform}</a>`);
    expect(page).toMatch(
      /env <code>ADDED<\/code><\/td><td[^>]*><span class="muted">none<\/span><\/td><td[^>]*><code>yes</,
    );
    expect(page.split('<tr').find(row => row.includes('<strong>elsewhere'))).toContain('does not apply');
    expect(page).toContain('&quot;&gt;&lt;script&gt;alert(1)');
    expect(page).not.toContain('<script>alert');
  }
});

test('shows the layers of the platform that is chosen', async () => {
  const layersOf = async (platform: string) => {
    const [, page] = await ask({ image: 'lab/library/app:1', platform });
    expect(page).toContain(`<h2>${platform}: source and result</h2>`);
    return [...page.matchAll(/title="(sha256:[0-9a-f]{64})"/g)].map(([, digest]) => digest).slice(8);
  };
  expect(await layersOf('linux/arm64')).not.toEqual(await layersOf('linux/amd64'));
  expect((await ask({ image: 'lab/library/app:1', platform: 'linux/riscv64' }))[0]).toBe(404);
});

test.each([
  ['nothing is asked for yet', {}, 200],
  ['a name that is none', { image: `a${HOSTILE}` }, 400],
  ['an image that is not there', { image: 'lab/library/none:1' }, 400],
])('%s is a page without anything that runs', async (_, query, status) => {
  const [answered, page] = await ask(query);
  expect([answered, page.includes('<script>alert')]).toEqual([status, false]);
});

test('of a token asks no upstream, which would get to know it', async () => {
  const [status, page] = await ask({ image: `wt/${'a'.repeat(24)}/library/app:1` });
  expect([status, page]).toEqual([400, expect.stringContaining('name its source image')]);
});

test('is for anyone who may pull it, and rules for others are not shown', async () => {
  await app.configure({ access: {} });
  const response = await app.request('/console/images?image=lab%2Flibrary%2Fapp:1', { headers: HTML });
  expect([response.status, response.headers.get('location')]).toEqual([303, expect.stringContaining('/console/login')]);
  const grants = [{ anyone: true, repositories: ['lab/**'], allow: ['pull'] }];
  const rules = [
    { name: 'mine', match: { image: 'lab/**' }, env: { A: 'b' } },
    { name: 'of-others', match: { image: 'quay.io/**' }, env: { A: 'b' } },
  ];
  await app.configure({ rules, access: { grants }, upstreams: { lab: { url: app.registry.url } } });
  const [status, page] = await ask({ image: 'lab/library/app:1' });
  expect([status, page.includes('mine'), page.includes('of-others')]).toEqual([200, true, false]);
});
