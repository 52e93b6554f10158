// Collecting on demand: who may, and what is said while it runs.
import { Writable } from 'node:stream';
import { Hono } from 'hono';
import { pino } from 'pino';
import { beforeEach, describe, expect, test } from 'vitest';
import { type Access, createUnconfiguredAccess } from '../../../src/access/access.ts';
import type { GarbageCollector, GcOptions } from '../../../src/hosted/gc/collector.ts';
import { GcRefused } from '../../../src/hosted/gc/orphans.ts';
import { type GcLine, type GcReport, gcLineSchema, NOTHING } from '../../../src/hosted/gc/report.ts';
import { createCollectApi } from '../../../src/http/admin/collect-api.ts';
import { createAuthentication } from '../../../src/http/middleware/authentication.ts';
import { createErrorHandler } from '../../../src/http/middleware/errors.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { basic, openAccess } from '../../access/fixture.ts';

const report: GcReport = {
  dryRun: false,
  startedAt: '2030-01-01T00:00:00.000Z',
  finishedAt: '2030-01-01T00:00:01.000Z',
  repositories: [],
  removed: NOTHING,
  kept: NOTHING,
  orphans: { blobs: 0, bytes: 0 },
  missing: { blobs: 0, bytes: 0, content: [] },
  freedBytes: 0,
};
const URL_OF_API = 'http://127.0.0.1:8080/v1/hosted/collect';

let asked: GcOptions[];
let logged: string[];

beforeEach(() => {
  asked = [];
  logged = [];
});

interface Setup {
  readonly collect?: GarbageCollector['collect'];
  readonly access?: Access;
}

function createApp({ collect = async () => report, access = createUnconfiguredAccess({ isOpen: true }) }: Setup = {}) {
  const log = pino(new Writable({ write: (line, _encoding, done) => done(void logged.push(String(line))) }));
  const app = new Hono();
  app.onError(createErrorHandler(log));
  app.use(createAuthentication({ access, publicUrl: undefined, addressOf: () => '127.0.0.1' }));
  const collector: GarbageCollector = {
    collect(options = {}) {
      asked.push(options);
      return collect(options);
    },
  };
  app.route('/', createCollectApi({ collector, log }));
  return app;
}

async function linesOf(response: Response): Promise<readonly GcLine[]> {
  const lines = (await response.text()).trimEnd().split('\n');
  return lines.map(line => gcLineSchema.parse(JSON.parse(line)));
}

test.each([
  ['', undefined],
  ['?dryRun=false', false],
  ['?dryRun=true', true],
])('a POST%s collects, and ends with the report', async (query, dryRun = false) => {
  const response = await createApp().request(URL_OF_API + query, { method: 'POST' });
  expect(response.status).toBe(200);
  expect(response.headers.get('Content-Type')).toBe('application/x-ndjson');
  expect(await linesOf(response)).toEqual([
    { kind: 'progress', progress: { repositories: 0, visited: 0 } },
    { kind: 'report', report },
  ]);
  expect(asked.map(options => options.dryRun)).toEqual([dryRun]);
});

test.each([
  ['', false],
  ['?force=true', true],
  ['?dryRun=true&force=true', true],
])('a POST%s insists where it says so', async (query, force) => {
  await (await createApp().request(URL_OF_API + query, { method: 'POST' })).text();
  expect(asked).toMatchObject([{ force }]);
});

test.each(['dryRun', 'force'].flatMap(name => ['yes', '1', 'TRUE', ''].map(text => ({ name, text }))))(
  '$name=$text is refused, and nothing runs',
  async ({ name, text }) => {
    const response = await createApp().request(`${URL_OF_API}?${name}=${text}`, { method: 'POST' });
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({ message: `${name} is "${text}": expected true or false` });
    expect(asked).toEqual([]);
  },
);

test('progress comes while it runs, and what a slow reader does not take is left out', async () => {
  const gate = Promise.withResolvers<void>();
  const app = createApp({
    async collect({ onProgress = () => {} } = {}) {
      await gate.promise;
      for (let repositories = 1; repositories <= 1000; repositories++) onProgress({ repositories, visited: 5 });
      return report;
    },
  });
  const response = await app.request(URL_OF_API, { method: 'POST' });
  gate.resolve();
  const lines = await linesOf(response);
  expect(lines.length).toBeLessThan(10);
  expect(lines.at(-1)).toEqual({ kind: 'report', report });
});

describe('a run that fails', () => {
  test.each([
    ['that is refused says why', new GcRefused('21 of 24 files'), '21 of 24 files'],
    ['of a full disk says so', new RegistryError('UNAVAILABLE', 'the disk is full'), 'the disk is full'],
    ['of anything else keeps it for the log', new Error('ENOENT /var/lib/secret'), 'see the log of Veneer'],
  ])('%s', async (_, error, message) => {
    const response = await createApp({ collect: () => Promise.reject(error) }).request(URL_OF_API, { method: 'POST' });
    expect((await linesOf(response)).at(-1)).toEqual({ kind: 'error', message: expect.stringContaining(message) });
    expect(logged.join()).toContain(error.message);
  });
});

test('a client that leaves stops the run, and no failure is logged', async () => {
  const stopped = Promise.withResolvers<unknown>();
  const app = createApp({
    collect: ({ signal } = {}) =>
      new Promise((_, reject) =>
        signal?.addEventListener('abort', () => {
          stopped.resolve(signal.reason);
          reject(signal.reason);
        }),
      ),
  });
  const response = await app.request(URL_OF_API, { method: 'POST' });
  await response.body?.cancel();
  expect(await stopped.promise).toMatchObject({ message: 'the client has left' });
  await new Promise(setImmediate);
  expect(logged).toEqual([]);
});

describe('without access configured', () => {
  const post = (app: Hono, url: string) => app.request(url, { method: 'POST', headers: { Host: new URL(url).host } });

  test.each(['http://127.0.0.1:8080', 'http://localhost:8080', 'http://[::1]:8080'])(
    'a caller on this machine may, at %s',
    async origin => {
      expect((await post(createApp(), `${origin}/v1/hosted/collect`)).status).toBe(200);
    },
  );

  test.each([
    ['by another name', true, 'http://veneer.example/v1/hosted/collect'],
    ['of a service that others reach', false, URL_OF_API],
  ])('a caller %s may not', async (_, isOpen, url) => {
    const app = createApp({ access: createUnconfiguredAccess({ isOpen }) });
    const response = await post(app, url);
    expect(response.status).toBe(403);
    expect(asked).toEqual([]);
  });
});

describe('with access configured', () => {
  test.each([
    ['nobody in particular', undefined, 401],
    ['an administrator', 'root', 200],
    ['a user who may delete everywhere', 'deleter', 403],
    ['a user who may push everywhere', 'pusher', 403],
  ])('%s gets %s', async (_, user, status) => {
    const users = { root: 'x', deleter: 'x', pusher: 'x' };
    const { access } = await openAccess({
      users,
      grants: [
        { users: ['root'], repositories: [], allow: ['admin'] },
        { users: ['deleter'], repositories: ['**'], allow: ['delete'] },
        { users: ['pusher'], repositories: ['**'], allow: ['pull', 'push'] },
      ],
    });
    const headers = user === undefined ? {} : { Authorization: basic(user, 'x') };
    const response = await createApp({ access }).request(URL_OF_API, { method: 'POST', headers });
    expect(response.status).toBe(status);
    expect(asked).toHaveLength(status === 200 ? 1 : 0);
  });
});
