// What the augment API tells of requests beside their images: records, pages, counts, and fields that nobody reads.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dataUrl, HOST, makeLayer } from '../support/app.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

let app: BuildApp;

beforeEach(async () => {
  app = await startBuildApp();
});

afterEach(() => app.close());

const read = async (path: string) => Object(await (await app.request(path)).json());
const FILE = '# <script>alert(1)</script>\nFROM scratch\nLABEL a=b\n';

async function post(path: string, body: unknown) {
  const response = await app.request(path, { method: 'POST', body });
  return [response.status, await response.json()] as const;
}

describe('a record', () => {
  test('of a build names what it was asked for with, and whether it is new', async () => {
    const body = {
      containerFile: base64(FILE),
      buildRepository: 'local/team',
      timestamp: '2026-11-23T08:18:53.5+01:00',
    };
    const {
      requestId,
      containerToken = '',
      buildId,
    } = await app.build({
      ...{ ...body, buildCompression: { mode: 'gzip', level: 9 } },
    });
    await app.ended(buildId);
    const told = { containerFile: FILE, buildRepository: 'local/team', buildNew: true, buildId };
    expect(await read(`/v1alpha2/container/${requestId}`)).toMatchObject({ ...told, zoneId: '+01:00' });
    const described = await read(`/container-token/${containerToken}`);
    expect([described.build, described.request.zoneId]).toEqual([expect.objectContaining(told), '+01:00']);
    expect(await read(`/v1alpha1/builds/${buildId}`)).toMatchObject({ compression: { mode: 'gzip', level: 9 } });
    const again = await app.build({ ...body, buildCompression: { mode: 'gzip', level: 9 } });
    expect(await read(`/v1alpha2/container/${again.requestId}`)).toMatchObject({ buildId, buildNew: false });
  });

  test('of an image with Fusion names its version, as the address of its layer has it', async () => {
    const layer = await makeLayer('fusion', 'x');
    app.registry.intercept(({ url = '' }, response) => {
      if (!url.endsWith('/fusion-amd64.tar.gz')) return false;
      response.writeHead(200).end(layer);
      return true;
    });
    await app.configure({ layers: { allowPrivateAddresses: true } });
    app.putImage();
    const location = `http://${app.registry.host}/releases/pkg/2/4/8/fusion-amd64.tar.gz`;
    const { token, name } = await app.submit({
      containerConfig: { layers: [{ location }] },
      containerPlatform: 'amd64',
    });
    expect(await read(`/v1alpha2/container/${token}`)).toMatchObject({ fusionVersion: '2.4.8' });
    await app.head(name, '1');
    await app.configure({});
    expect(await read('/v1alpha2/metrics/fusion/pulls')).toEqual({ metric: 'fusion', count: 1, orgs: {} });
  });
});

describe('a status', () => {
  test('waits for the end of a build, so that who asks seldom hears of it at once', async () => {
    const held = app.holdBase();
    const answer = await app.build({ containerFile: base64(`FROM ${app.base}\nCOPY --from=${app.base} /none* /\n`) });
    await held.asked;
    const status = app.status(answer);
    const ofBuild = read(`/v1alpha1/builds/${answer.buildId}/status`);
    held.release();
    expect(await status).toMatchObject({ status: 'DONE' });
    expect(await ofBuild).toMatchObject({ status: 'COMPLETED' });
  });

  test('of one network waits in a part of the places alone', async () => {
    const grants = [{ anyone: true, repositories: ['**'], allow: ['pull', 'push', 'build'] }];
    await app.configure({ access: { grants }, limits: { statusWaits: 8, statusWait: '15s' } });
    app.putImage();
    const held = app.holdBase();
    const answer = await app.build({ containerFile: base64(`FROM ${app.base}\nCOPY --from=${app.base} /none* /\n`) });
    await held.asked;
    let answered = 0;
    const ask = async (address: string) => {
      const response = await app.request(`/v1alpha2/container/${answer.requestId}/status`, { address });
      answered += 1;
      return Object(await response.json()).status;
    };
    const first = [ask('203.0.113.1'), ask('203.0.113.2'), ask('203.0.113.1')];
    // Two of an address wait, and its others are answered at once.
    const greedy = [ask('203.0.113.1'), ask('203.0.113.1'), ask('203.0.113.1')];
    await expect.poll(() => answered).toBe(3);
    const other = ask('198.51.100.1');
    held.release();
    expect(await other).toBe('DONE');
    const all = await Promise.all([...first, ...greedy]);
    expect(all.filter(status => status === 'BUILDING')).toHaveLength(3);
  });

  test.each([
    ['no longer than it may', { statusWait: '10ms' }],
    ['not at all where too many do', { statusWaits: 0 }],
  ])('waits %s', async (_, limits) => {
    await app.configure({ limits });
    app.putImage();
    const held = app.holdBase();
    const answer = await app.build({ containerFile: base64(`FROM ${app.base}\nCOPY --from=${app.base} /none* /\n`) });
    await held.asked;
    expect(await app.status(answer)).toMatchObject({ status: 'BUILDING' });
    held.release();
  });
});

describe('a field that nobody reads', () => {
  test.each<[object, string]>([
    [
      { containerConfig: { envs: ['A=b'] } },
      'containerConfig.envs: this field is unknown and was ignored; did you mean env?',
    ],
    [{ containerconfig: {} }, 'containerconfig: this field is unknown and was ignored; did you mean containerConfig?'],
    [
      { containerPlatforms: 'arm64' },
      'containerPlatforms: this field is unknown and was ignored; did you mean containerPlatform?',
    ],
    [
      { buildCompression: { kind: 'zstd' } },
      'buildCompression.kind: this field is unknown and was ignored; known are mode, level, force',
    ],
  ])('is reported (%j)', async (body, warning) => {
    const [status, answer] = await post('/v1alpha2/container', { containerImage: app.image, ...body });
    if (status !== 200)
      expect([status, JSON.stringify(answer)]).toEqual([400, expect.stringContaining('buildCompression')]);
    else expect(Object(answer).warnings).toEqual([warning]);
  });

  test('makes no layer of a build context, and is told where it was meant to be one', async () => {
    const buildContext = { location: dataUrl(await makeLayer('a', 'b')), gzipDigst: 'sha256:' };
    const answer = Object(
      (await post('/v1alpha2/container', { containerFile: base64(`FROM ${app.base}\n`), buildContext }))[1],
    );
    expect(answer.warnings).toEqual([
      'buildContext: was taken as a map of files, since no layer has "gzipDigst"; did you mean gzipDigest?',
    ]);
  });

  test('of another version of a client is none', async () => {
    const [, answer] = await post('/v1alpha2/container', {
      containerImage: app.image,
      novelty: { a: 1 },
      spackFile: null,
    });
    expect(answer).not.toHaveProperty('warnings');
  });

  test('is reported for a bounded number', async () => {
    const containerConfig = Object.fromEntries(Array.from({ length: 5000 }, (_, at) => [`field${at}`, 1]));
    const [, answer] = await post('/v1alpha2/container', { containerImage: app.image, containerConfig });
    expect(Object(answer).warnings).toHaveLength(21);
  });
});

describe('a page', () => {
  test('shows a build with its log, escaped, and needs no script', async () => {
    const { buildId, requestId } = await app.build({ containerFile: base64(FILE) });
    await app.ended(buildId);
    const response = await app.request(`/view/builds/${buildId}`);
    const text = await response.text();
    expect([response.status, response.headers.get('content-type')]).toEqual([
      200,
      expect.stringContaining('text/html'),
    ]);
    expect(text).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
    expect(text).not.toContain('<script>');
    expect(text).toContain('succeeded: local/builds');
    expect(response.headers.get('content-security-policy')).toContain(
      "default-src 'none'; script-src 'self'; style-src 'self';",
    );
    const container = await (await app.request(`/view/containers/${requestId}`)).text();
    expect(container).toContain(`<a href="/view/builds/${buildId}">`);
  });

  test('shows a mirror, and an image as its registry has it', async () => {
    const { root } = app.putImage();
    const { buildId } = await app.build({ containerImage: app.base, mirror: true, buildRepository: 'local/mirrors' });
    await app.ended(buildId);
    expect(await (await app.request(`/view/mirrors/${buildId}`)).text()).toContain(
      '<span class="chip ok">succeeded</span>',
    );
    const inspected = await app.request(`/view/inspect?image=${encodeURIComponent(app.base)}`);
    expect([inspected.status, await inspected.text()]).toEqual([200, expect.stringContaining(root.digest)]);
  });

  test.each([
    ['/view/containers/0123456789ab0123456789ab', 404],
    ['/view/builds/bd-0123456789abcdef_1', 404],
    ['/view/mirrors/x', 404],
    ['/view/scans/sc-0123456789abcdef_1', 404],
    ['/view/inspect', 400],
    ['/view/inspect?image=A%3CB', 400],
  ])('%s is none', async (path, status) => {
    expect((await app.request(path)).status).toBe(status);
  });

  test('is for anyone who may pull the image, and nobody else', async () => {
    const { buildId } = await app.build({ containerFile: base64(FILE) });
    await app.ended(buildId);
    await app.configure({ access: {} });
    for (const path of [`/view/builds/${buildId}`, `/view/inspect?image=${encodeURIComponent(app.base)}`])
      expect([path, (await app.request(path)).status]).toEqual([path, 401]);
  });

  test('is read by who follows a link of one, and by no other page', async () => {
    const { buildId } = await app.build({ containerFile: base64(FILE) });
    const ask = async (path: string, site: string) =>
      (await app.request(path, { headers: { 'Sec-Fetch-Site': site } })).status;
    for (const path of [`/view/builds/${buildId}`, `/v1alpha1/builds/${buildId}/logs?follow=false`]) {
      expect([await ask(path, 'same-origin'), await ask(path, 'cross-site'), await ask(path, 'same-site')]).toEqual([
        200, 403, 403,
      ]);
    }
    const record = `/v1alpha1/builds/${buildId}`;
    expect([await ask(record, 'same-origin'), await ask(record, 'cross-site')]).toEqual([200, 403]);
  });
});

describe('the counts of a day', () => {
  test('are of builds, mirrors and pulls, by architecture, and outlive a restart', async () => {
    const { buildId } = await app.build({ containerFile: base64(FILE), containerPlatform: 'linux/amd64' });
    await app.ended(buildId);
    await app.build({ containerFile: base64(FILE), containerPlatform: 'linux/amd64' });
    await app.build({ containerImage: app.base, mirror: true, buildRepository: 'local/mirrors' });
    const { name } = await app.submit({ containerPlatform: 'arm64' });
    const { digest } = await app.head(name, '1');
    await app.head(name, digest);
    await app.restart();
    const of = async (path: string) => (await read(`/${path}`)).count;
    expect(await read('/v1alpha2/metrics/builds')).toEqual({ metric: 'builds', count: 1, orgs: {} });
    expect(await of('v1alpha3/metrics/builds?arch=amd64')).toBe(1);
    expect(await of('v1alpha3/metrics/builds?arch=arm64')).toBe(0);
    expect(await of('v1alpha3/metrics/pulls?arch=arm64')).toBe(1);
    expect(await of('v1alpha2/metrics/mirrors?date=2020-01-01')).toBe(0);
    expect(await of('v1alpha2/metrics/mirrors')).toBe(1);
    expect(await of('v1alpha3/metrics/mirrors?date=&org=&arch=')).toBe(1);
  });

  test.each([
    ['date=2026-1-1', 'date: must be a day as yyyy-mm-dd'],
    ['date=2026-13-41', 'date: must be a day as yyyy-mm-dd'],
    ['arch=a/b/c/d', 'arch: "a/b/c/d" is not a platform'],
    [`org=${'a'.repeat(256)}`, 'org: has more than 255 characters'],
  ])('are refused for %s', async (query, message) => {
    const response = await app.request(`/v1alpha3/metrics/pulls?${query}`);
    expect([response.status, await response.json()]).toEqual([400, { message: expect.stringContaining(message) }]);
  });

  test('are for who looks after Veneer', async () => {
    await app.configure({ access: {} });
    expect((await app.request('/v1alpha2/metrics/builds')).status).toBe(401);
  });
});

test('lock files are of builds that have installed conda packages', async () => {
  const { buildId } = await app.build({ containerFile: base64(FILE) });
  await app.ended(buildId);
  const response = await app.request(`/v1alpha1/builds/${buildId}/condalock`);
  const message = `${buildId} has no lock file: it does not install conda packages`;
  expect([response.status, await response.json()]).toEqual([404, { message }]);
});

describe.each(['/v1alpha2/validate-creds', '/validate-creds'])('%s', path => {
  test('says whether a registry takes credentials', async () => {
    await app.close();
    app = await startBuildApp({ registry: { requireToken: { username: 'robot', password: 'canary-good' } } });
    const check = (password: string) => post(path, { userName: 'robot', password, registry: app.registry.host });
    expect([await check('canary-good'), await check('canary-bad'), await check('canary-good')]).toEqual([
      [200, true],
      [200, false],
      [200, true],
    ]);
    expect(app.log.join('')).not.toContain('canary');
  });

  test.each<[object, number, string]>([
    [{ password: 'x' }, 400, 'userName: is required, as a string'],
    [{ userName: 'a' }, 400, 'password: is required, as a string'],
    [{ userName: 'a', password: 'b', registry: '10.0.0.1:1' }, 400, '10.0.0.1:1'],
    [{ userName: 'a', password: 'b', registry: 'a b' }, 400, 'is not configured as an upstream'],
  ])('refuses %j', async (body, status, message) => {
    expect(await post(path, body)).toEqual([status, { message: expect.stringContaining(message) }]);
  });
});

test('records of layers that come with a request are shown without their bytes', async () => {
  const location = dataUrl(await makeLayer('a', 'b'));
  const { token } = await app.submit({ containerConfig: { layers: [{ location }] } });
  const text = await (await app.request(`/view/containers/${token}`)).text();
  expect(text).not.toContain(location.slice(5, 40));
  expect(text).toContain(HOST);
});
