// Logging in with a browser, through the whole app: by the credentials of everywhere, with forms that no other page can send.
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAccessTokens } from '../../src/access/access-token.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { type Answer, startServer, type TestServer } from '../support/server.ts';
import { ADMIN, type GuardedServer, startGuarded } from './callers.ts';

const HTML = { Accept: 'text/html' };
const FORM = { ...HTML, 'Content-Type': 'application/x-www-form-urlencoded', 'Sec-Fetch-Site': 'same-origin' };
const HOST = 'veneer.example';

/** As far as a browser matters here: it keeps cookies, and sends forms with what is in them. */
function createBrowser({ send }: Pick<TestServer, 'send'>, host = HOST) {
  const cookies = new Map<string, string>();

  function keep(answer: Answer): Answer {
    for (const set of answer.headers['set-cookie'] ?? []) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(set) ?? [];
      if (/Max-Age=0/.test(set)) cookies.delete(name);
      else cookies.set(name, value);
    }
    return answer;
  }

  const headersOf = (more: Readonly<Record<string, string>>) => ({
    Host: host,
    ...(cookies.size > 0 && { Cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }),
    ...more,
  });
  const get = async (path: string, more = {}) =>
    keep(await send('GET', path, { headers: headersOf({ ...HTML, ...more }) }));
  return {
    cookies,
    get,
    async post(path: string, fields: Readonly<Record<string, string>>, more = {}) {
      const body = new URLSearchParams(fields).toString();
      return keep(await send('POST', path, { headers: headersOf({ ...FORM, ...more }), body }));
    },
    /** Fills the form of the page at `path`. */
    async login(user: string, password: string, path = '/console/login', more = {}) {
      const fields = { ...hiddenOf(await get(path)), user, password };
      return this.post('/console/login', fields, more);
    },
  };
}

function hiddenOf({ body }: Pick<Answer, 'body'>): Record<string, string> {
  const page = body.toString();
  const form = page.slice(page.indexOf('<main'));
  return Object.fromEntries(
    [...form.matchAll(/<input type="hidden" name="(\w+)" value="([^"]*)">/g)].map(([, name = '', value = '']) => [
      name,
      value.replaceAll('&amp;', '&'),
    ]),
  );
}

let server: GuardedServer;

beforeAll(async () => {
  server = await startGuarded();
});

afterAll(() => server.close());

describe('a browser', () => {
  test('logs in with a password, is who it is in every page, and logs out', async () => {
    const browser = createBrowser(server);
    expect((await browser.get('/console')).body.toString()).toContain('href="/console/login?next=%2Fconsole"');
    const answer = await browser.login('admin', 'password', '/console/login?next=%2Fconsole%3Fa%3D1');
    expect([answer.status, answer.headers.location]).toEqual([303, '/console?a=1']);
    const page = (await browser.get('/console')).body.toString();
    expect(page).toContain('user admin');
    expect(page).toContain(server.directory);
    const kept = browser.cookies.get('veneer-session') ?? '';
    const form =
      /<form method="post" action="\/console\/logout"><input type="hidden" name="form" value="([^"]+)">/.exec(
        page,
      )?.[1] ?? '';
    expect((await browser.post('/console/logout', { form })).headers.location).toBe('/console');
    expect(browser.cookies.has('veneer-session')).toBe(false);
    browser.cookies.set('veneer-session', kept);
    expect((await browser.get('/console')).body.toString()).not.toContain(server.directory);
  });

  test('keeps the session from scripts and other sites', async () => {
    const browser = createBrowser(server);
    const { headers } = await browser.login('admin', 'password');
    expect(headers['set-cookie']?.find(each => each.startsWith('veneer-session='))).toMatch(
      /; Path=\/; Expires=[^;]+; HttpOnly; SameSite=Strict$/,
    );
  });

  test('shows it over https alone, where that is how clients come', async () => {
    const secure = await startGuarded({ publicUrl: 'https://veneer.example' });
    const browser = createBrowser(secure);
    const { headers } = await browser.login('admin', 'password');
    expect(headers['set-cookie']).toEqual([expect.stringMatching(/^__Host-veneer-session=.*; Path=\/; .*Secure/)]);
    expect((await browser.get('/console')).body.toString()).toContain('user admin');
    await secure.close();
  });

  test('logs in with an access token, and with a right to administer that it has', async () => {
    const records = createSqliteStore({ path: join(server.directory, 'data', 'records.db'), now: () => new Date() });
    const tokens = createAccessTokens({ records, now: () => new Date() });
    const permissions = [{ repositories: [], allow: ['admin'] }] as const;
    const { token, secret } = await tokens.issue({ name: 'ops', permissions, ttlMs: 60_000 });
    await records.close();
    const browser = createBrowser(server);
    await browser.login('', secret);
    const page = (await browser.get('/console')).body.toString();
    expect(page).toContain(`access token ${token.id}`);
    expect(page).toContain(server.directory);
  });

  test('is asked to log in by what it may not see, and led back there', async () => {
    const browser = createBrowser(server);
    const path = `/view/inspect?image=${encodeURIComponent('local/app:1')}`;
    const { status, headers } = await browser.get(path);
    expect([status, headers.location]).toEqual([303, `/console/login?next=${encodeURIComponent(path)}`]);
    const answer = await browser.login('reader', 'password', headers.location);
    expect(answer.headers.location).toBe(path);
    // It is let in, and there is no such image.
    expect((await browser.get(path)).status).toBe(400);
  });

  test('that comes from another site shows the session to the page that asks again', async () => {
    const browser = createBrowser(server);
    const link = { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'navigate', 'Sec-Fetch-Dest': 'document' };
    const { status, body } = await browser.get('/console?a=%3Cb', link);
    expect([status, body.toString()]).toEqual([
      200,
      expect.stringContaining('<meta http-equiv="refresh" content="0">'),
    ]);
    expect(body.toString()).toContain('<a href="/console?a=%3Cb">');
    for (const [path, more] of [
      ['/console', { 'Sec-Fetch-Dest': 'iframe' }],
      ['/console', { 'Sec-Fetch-Mode': 'cors' }],
      ['/v2/', {}],
      ['/v1alpha1/builds', {}],
    ] as const)
      expect([path, (await browser.get(path, { ...link, ...more })).status]).toEqual([path, 403]);
  });
});

describe('wrong credentials', () => {
  test('are refused with a page that says so, and no word of them is written anywhere', async () => {
    const browser = createBrowser(server);
    for (const [user, password] of [
      ['admin', 'canary-wrong'],
      ['nobody-here', 'canary-wrong'],
      ['admin', `vnr_${'c'.repeat(40)}`],
      ['a\nb', 'canary-wrong'],
    ] as const) {
      const answer = await browser.login(user, password);
      expect([answer.status, answer.headers['set-cookie']]).toEqual([401, undefined]);
      expect(answer.body.toString()).toMatch(/role="alert"/);
      expect(answer.body.toString()).not.toContain('canary');
    }
    expect(server.log.join('')).not.toMatch(/canary|cccccc/);
    expect(server.log.join('')).toContain('wrong user name or password');
  });

  test('count as those of docker login do', async () => {
    const browser = createBrowser(server);
    for (let guess = 0; guess < 10; guess += 1) await browser.login('cleaner', `wrong ${guess}`);
    const answer = await browser.login('cleaner', 'password');
    expect([answer.status, Number(answer.headers['retry-after'])]).toEqual([429, expect.any(Number)]);
    expect(answer.body.toString()).toContain('too many wrong passwords');
    const { status } = await server.send('GET', '/v2/', { headers: { Authorization: basic('cleaner', 'password') } });
    expect(status).toBe(429);
  });

  test.each([
    'https://evil.example',
    '//evil.example',
    '/\\evil.example',
    '/v2/',
    'javascript:alert(1)',
    '/console/../v2/',
  ])('a log-in leads to pages of ours, not to %s', async next => {
    const browser = createBrowser(server);
    const answer = await browser.login('admin', 'password', `/console/login?next=${encodeURIComponent(next)}`);
    expect(answer.headers.location).toBe('/console');
  });
});

describe('a form', () => {
  test.each([
    ['from another site', { 'Sec-Fetch-Site': 'cross-site' }],
    ['from a host beside us', { 'Sec-Fetch-Site': 'same-site' }],
    ['from another origin', { 'Sec-Fetch-Site': 'same-origin', Origin: 'https://page.example' }],
    ['from a sandbox', { 'Sec-Fetch-Site': 'same-origin', Origin: 'null' }],
    ['from nowhere', { 'Sec-Fetch-Site': 'none' }],
  ])('%s does nothing', async (_, headers) => {
    const browser = createBrowser(server);
    const answer = await browser.login('admin', 'password', '/console/login', headers);
    expect([answer.status, browser.cookies.has('veneer-session')]).toEqual([403, false]);
  });

  test('without the token of the browser does nothing', async () => {
    const browser = createBrowser(server);
    const { form = '' } = hiddenOf(await browser.get('/console/login'));
    const other = hiddenOf(await createBrowser(server).get('/console/login')).form ?? '';
    const fields = { user: 'admin', password: 'password' };
    for (const wrong of ['', 'x', other]) {
      const answer = await browser.post('/console/login', { ...fields, form: wrong });
      expect([answer.status, answer.body.toString()]).toEqual([403, expect.stringContaining('reload the page')]);
    }
    browser.cookies.clear();
    expect((await browser.post('/console/login', { ...fields, form })).status).toBe(403);
    expect((await browser.post('/console/login', { ...fields, form: '' })).status).toBe(403);
  });

  test('is read as a form alone, and not beyond its limit', async () => {
    const browser = createBrowser(server);
    const { form = '' } = hiddenOf(await browser.get('/console/login'));
    const json = await browser.post('/console/login', { form }, { 'Content-Type': 'application/json' });
    // Announced, and not sent: a body that is refused breaks, at times before its sender has the answer.
    const announced = { 'Content-Length': `${25 * 1024 * 1024}`, Connection: 'close' };
    const large = await browser.post('/console/login', { form }, announced);
    expect([json.status, large.status]).toEqual([415, 413]);
  });
});

test('an Authorization header goes before a session, and a wrong one is refused', async () => {
  const browser = createBrowser(server);
  await browser.login('admin', 'password');
  const page = (await browser.get('/console', { Authorization: basic('reader', 'password') })).body.toString();
  expect(page).not.toContain(server.directory);
  expect((await browser.get('/console', { Authorization: basic('reader', 'wrong') })).status).toBe(401);
});

test('a session opens pages, and no route of the API or the registry', async () => {
  const browser = createBrowser(server);
  await browser.login('admin', 'password');
  for (const path of ['/v1/rules', '/v1/cache/stat', '/v2/local/app/tags/list', '/v1alpha2/metrics/builds'])
    expect([path, (await browser.get(path)).status]).toEqual([path, 401]);
});

test('nobody logs in where there are no users: this machine sees all', async () => {
  const open = await startServer();
  const browser = createBrowser(open, '127.0.0.1');
  const page = (await browser.get('/console')).body.toString();
  expect(page).toContain('caller on this machine');
  expect(page).not.toContain('/console/login');
  expect((await browser.get('/console/login')).status).toBe(404);
  await open.close();
});

test('errors are pages to browsers, and JSON to all others', async () => {
  const browser = createBrowser(server);
  const page = await browser.get('/console/nothing/<b>');
  expect([page.status, page.headers['content-type']]).toEqual([404, 'text/html; charset=UTF-8']);
  expect(page.body.toString()).toContain('There is no such page');
  const other = await browser.get('/console/nothing', { Accept: '*/*' });
  expect([other.status, other.headers['content-type']]).toEqual([404, 'application/json']);
  const build = await browser.get('/view/builds/bd-0123456789abcdef_1', { Accept: '*/*', Authorization: ADMIN });
  expect([build.status, JSON.parse(build.body.toString())]).toEqual([
    404,
    { message: expect.stringContaining('unknown') },
  ]);
});

test('a change of the password ends the sessions that it opened', async () => {
  const guarded = await startGuarded();
  const htpasswd = join(guarded.directory, 'htpasswd');
  await writeFile(htpasswd, htpasswdOf({ ada: 'first' }));
  const access = { htpasswd, grants: [{ users: ['ada'], allow: ['admin'] }] };
  const restarted = await guarded.restart({ access });
  const browser = createBrowser(restarted);
  await browser.login('ada', 'first');
  expect((await browser.get('/console')).body.toString()).toContain('user ada');
  await rm(htpasswd);
  await writeFile(htpasswd, htpasswdOf({ ada: 'second' }));
  expect((await browser.get('/console')).body.toString()).not.toContain('user ada');
  await restarted.close();
});

test('the log says who logged in and out, and that somebody could not', async () => {
  const browser = createBrowser(server);
  const before = server.log.length;
  await browser.login('reader', 'password');
  const { form = '' } = hiddenOf({ body: Buffer.from(`<main${(await browser.get('/console')).body.toString()}`) });
  await browser.post('/console/logout', { form });
  await browser.login('reader', 'wrong');
  const find = () => server.log.slice(before).flatMap(line => (JSON.parse(line).action ? [JSON.parse(line)] : []));
  await expect.poll(() => find().length).toBe(3);
  expect(find().map(({ action, caller, status, address }) => ({ action, caller, status, address }))).toEqual([
    { action: 'login', caller: 'reader', status: 303, address: '127.0.0.1' },
    { action: 'logout', caller: 'reader', status: 303, address: '127.0.0.1' },
    { action: 'login', caller: undefined, status: 401, address: '127.0.0.1' },
  ]);
});
