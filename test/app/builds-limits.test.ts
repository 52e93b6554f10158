// How much a caller may build, and what nothing here can build: each is refused before anything starts.
import { afterEach, describe, expect, test } from 'vitest';
import { basic } from '../access/fixture.ts';
import { PLATFORMS, startApp, type TestApp } from '../support/app.ts';
import { base64 } from './build-app.ts';
import { type GuardedServer, startGuarded } from './callers.ts';

const closing: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function start(builds: object = {}): Promise<TestApp> {
  const app = await startApp({ config: { builds: { backends: ['embedded'], ...builds } } });
  closing.push(() => app.close());
  return app;
}

async function refusedBy(app: TestApp, body: object) {
  const response = await app.request('/v1alpha2/container', { method: 'POST', body });
  return [response.status, String(Object(await response.json()).message)];
}

const containerFile = (label: string) => base64(`FROM scratch\nLABEL a=${label}`);

describe('a platform', () => {
  test.each([
    ['linux/amd46', 'linux/amd46 cannot be built here (did you mean linux/amd64?); embedded builds linux/amd64, '],
    ['linux/amd64,linx/arm64', 'linx/arm64 cannot be built here (did you mean linux/arm64?)'],
    ['linux/aarch65', 'did you mean linux/arm64'],
    ['windows/amd64', 'windows/amd64 cannot be built here; embedded builds'],
    ['linux/arm64/v9/x', 'containerPlatform: "linux/arm64/v9/x" is not a platform; expected os/arch[/variant]'],
    ['', 'cannot be built here'],
  ])(
    '%j that nothing here can build is refused by name, with what can be built',
    async (containerPlatform, message) => {
      const app = await start();
      const body = { containerFile: containerFile('x'), containerPlatform: containerPlatform || 'plan9/mips' };
      expect(await refusedBy(app, body)).toEqual([400, expect.stringContaining(message)]);
      expect(Object(await (await app.request('/v1alpha1/builds')).json()).builds).toEqual([]);
    },
  );
});

test('what needs a builder is refused with the builders that there could be', async () => {
  const app = await start();
  const body = { containerFile: base64('FROM scratch\nRUN true') };
  expect(await refusedBy(app, body)).toEqual([400, expect.stringMatching(/RUN.*BuildKit/)]);
  expect(await refusedBy(app, { packages: { type: 'CONDA', entries: ['samtools'] } })).toEqual([
    400,
    expect.stringMatching(/RUN/),
  ]);
});

test.each<[string, object, string]>([
  ['that is none', { containerFile: base64('COPY a b') }, 'containerFile: '],
  [
    'of a base that is not there',
    { containerFile: base64('FROM HOST/none:1') },
    'the image "HOST/none:1" cannot be resolved',
  ],
  ['of a base out of grammar', { containerFile: base64('FROM Alpine') }, 'Alpine'],
  ['with too long an argument', { containerFile: containerFile('x'), buildArgs: { A: 'x'.repeat(40_000) } }, 'args'],
  [
    'with an argument of no name',
    { containerFile: containerFile('x'), buildArgs: { 'A B': 'x' } },
    '"A B" is not a valid name',
  ],
])('a Containerfile %s is refused', async (_, body, message) => {
  const app = await start();
  const named = 'containerFile' in body ? atob(String(body.containerFile)).replace('HOST', app.registry.host) : '';
  const refused = await refusedBy(app, { ...body, containerFile: base64(named) });
  expect(refused).toEqual([400, expect.stringContaining(message.replace('HOST', app.registry.host))]);
});

test.each<[string, object, object, string]>([
  ['a Containerfile', { containerFile: '16B' }, { containerFile: containerFile('long') }, 'containerFile: has '],
  [
    'the number of files',
    { contextEntries: 1 },
    { containerFile: containerFile('x'), buildContext: { a: '1', b: '2' } },
    'more than 1 entries',
  ],
  [
    'the bytes of files',
    { context: '8B' },
    { containerFile: containerFile('x'), buildContext: { a: '123456789' } },
    'more than 8 bytes',
  ],
])('%s over its limit is refused', async (_, limits, body, message) => {
  expect(await refusedBy(await start({ limits }), body)).toEqual([400, expect.stringContaining(message)]);
});

test('a full queue answers 429, and says when to come again', async () => {
  const app = await start({ concurrency: 1, queue: { max: 0 } });
  app.putImage();
  const asked = Promise.withResolvers<void>();
  app.registry.intercept(({ url = '' }) => {
    if (url.includes('/blobs/')) asked.resolve();
    return url.includes('/blobs/');
  });
  const first = await app.request('/v1alpha2/container', {
    method: 'POST',
    body: { containerFile: base64(`FROM ${app.image}`) },
  });
  expect(first.status).toBe(200);
  await asked.promise;
  const body = { containerFile: containerFile('x') };
  const response = await app.request('/v1alpha2/container', { method: 'POST', body });
  expect([response.status, Number(response.headers.get('retry-after'))]).toEqual([429, 30]);
  expect(Object(await response.json()).message).toContain('the maximum');
});

describe('a rate', () => {
  async function startRated(rate: object): Promise<GuardedServer> {
    const server = await startGuarded({
      builds: { backends: ['embedded'], rate },
      hosted: { prefixes: ['local/'] },
    });
    closing.push(() => server.close());
    return server;
  }

  function headersFor({ port }: GuardedServer) {
    const Authorization = basic('admin', 'password');
    return { Host: `127.0.0.1:${port}`, Authorization, 'Content-Type': 'application/json' };
  }

  function build(server: GuardedServer, label: string, more: object = {}) {
    return server.send('POST', '/v1alpha2/container', {
      headers: headersFor(server),
      body: JSON.stringify({ containerFile: containerFile(label), ...more }),
    });
  }

  test('counts each platform of what is new, and neither what is built nor a dry run', async () => {
    const server = await startRated({ known: '4/1h' });
    expect((await build(server, 'a', { containerPlatform: PLATFORMS.join(',') })).status).toBe(200);
    for (let at = 0; at < 3; at += 1) {
      expect((await build(server, 'a', { containerPlatform: PLATFORMS.join(',') })).status).toBe(200);
      expect((await build(server, `dry${at}`, { dryRun: true })).status).toBe(200);
    }
    const refused = await build(server, 'b', { containerPlatform: 'amd64,arm64' });
    expect([refused.status, Number(refused.headers['retry-after'])]).toEqual([
      429,
      expect.toSatisfy(s => s > 3500 && s <= 3600),
    ]);
    expect(refused.body.toString()).toContain('2 more would be 5 of 4 platforms in 3600 seconds');
    // What was refused does not count.
    expect((await build(server, 'c')).status).toBe(200);
    expect((await build(server, 'd')).status).toBe(429);
  });

  test('counts copies, too', async () => {
    const server = await startRated({ known: '2/1h' });
    expect((await build(server, 'a')).status).toBe(200);
    const headers = headersFor(server);
    const copy = async (name: string) => {
      const built = JSON.parse((await build(server, 'a')).body.toString());
      await server.send('GET', `/v1alpha1/builds/${built.buildId}/logs`, { headers });
      const body = { containerImage: built.containerImage, freeze: true, buildRepository: `local/${name}` };
      return server.send('POST', '/v1alpha2/container', { headers, body: JSON.stringify(body) });
    };
    expect((await copy('one')).status).toBe(200);
    expect((await copy('one')).status).toBe(200);
    const refused = await copy('two');
    expect([refused.status, refused.body.toString()]).toEqual([429, expect.stringContaining('builds.rate.known')]);
  });

  test('counts what is tried again', async () => {
    const server = await startRated({ known: '2/1h' });
    const answer = await build(server, 'x', { containerFile: base64('FROM scratch\nCOPY missing /') });
    const { buildId } = JSON.parse(answer.body.toString());
    const headers = headersFor(server);
    const retry = async (id: string) => {
      await server.send('GET', `/v1alpha1/builds/${id}/logs`, { headers });
      return server.send('POST', `/v1alpha1/builds/${id}/retry`, { headers });
    };
    const second = await retry(buildId);
    expect(second.status).toBe(200);
    expect((await retry(JSON.parse(second.body.toString()).buildId)).status).toBe(429);
  });
});
