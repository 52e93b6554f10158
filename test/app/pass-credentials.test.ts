// Two users of one upstream, each with a private image: what one of them opened is nobody else's, by no route and in no state of the cache.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { HOST, startApp, type TestApp } from '../support/app.ts';
import { type GeneratedImage, generateImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';
import { createPrivacy, type Privacy } from '../support/private-registry.ts';
import { readRecords } from './records.ts';

const MINUTE = 60_000;
const users = {
  alice: { password: 'canary-alice', repositories: ['alice/app'] },
  bob: { password: 'canary-bob', repositories: ['bob/app'] },
};
const ALICE = basic('alice', 'canary-alice');
const BOB = basic('bob', 'canary-bob');
const GUESS = basic('alice', 'canary-guess');

const tokenSchema = z.object({ token: z.string() });
const indexSchema = z.object({ manifests: z.array(z.object({ digest: z.string() })) });
const blobSchema = z.object({ digest: z.string() });
const manifestSchema = z.object({ config: blobSchema, layers: z.array(blobSchema) });

let app: TestApp;
let privacy: Privacy;
let nowMs: number;
let mine: GeneratedImage;
let said: string[];

beforeEach(async () => {
  nowMs = Date.parse('2030-01-02T03:04:05Z');
  said = [];
  app = await startApp({ now: () => new Date(nowMs) });
});

afterEach(async () => {
  await app.close();
});

/** The images of alice and of anyone, and a registry that tells users apart. */
async function start(scheme: 'Basic' | 'Bearer', settings: object = {}): Promise<void> {
  await configure({ passCredentials: true }, settings);
  mine = put('alice/app', 1);
  put('open/app', 2);
  app.registry.put('bob/app', [{ mediaType: 'text/plain', raw: Buffer.from('{}'), tags: ['1'] }]);
  privacy = createPrivacy({ scheme, users, open: ['open/app'] });
  app.registry.intercept(privacy.intercept);
}

function configure(entry: object, settings: object = {}): Promise<void> {
  return app.configure({ upstreams: { lab: { url: app.registry.url, ...entry } }, ...settings });
}

function put(repository: string, seed: number): GeneratedImage {
  const image = generateImage({ seed, platforms: ['linux/amd64'], layers: 2, family: 'oci' });
  const contents = [...image.content].map(([digest, content]) => ({
    ...content,
    ...(digest === image.root.digest && { tags: ['1'] }),
  }));
  app.registry.put(repository, contents);
  return image;
}

async function ask(path: string, authorization?: string, method = 'GET'): Promise<Response> {
  const response = await app.request(path, { method, ...(authorization && { headers: { authorization } }) });
  said.push(JSON.stringify([...response.headers]), await response.clone().text());
  return response;
}

/** Every way to an image of a repository, with its digests. */
function routesTo(name: string): readonly (readonly [method: string, path: string])[] {
  const manifests = [...mine.content].filter(([, { mediaType }]) => /manifest|index/.test(mediaType));
  const blobs = [...mine.content].filter(([, { mediaType }]) => !/manifest|index/.test(mediaType));
  const digests = (list: typeof blobs) => list.map(([digest]) => digest);
  const paths = [
    'manifests/1',
    ...digests(manifests).map(d => `manifests/${d}`),
    ...digests(blobs).map(d => `blobs/${d}`),
  ];
  return [
    ...paths.flatMap(path => ['GET', 'HEAD'].map(method => [method, `/v2/${name}/${path}`] as const)),
    ...paths.map(path => ['GET', `/v2/${name.replace(/^lab\//, '')}/${path}?ns=lab`] as const),
    ['GET', `/v2/${name}/tags/list`],
    ['GET', `/v2/${name}/referrers/${mine.root.digest}`],
  ];
}

async function statusesOf(name: string, authorization?: string): Promise<ReadonlySet<number>> {
  const statuses = new Set<number>();
  for (const [method, path] of routesTo(name)) statuses.add((await ask(path, authorization, method)).status);
  return statuses;
}

/** Pulls all of alice's image, so that all of it is kept. */
async function warm(): Promise<void> {
  expect(await statusesOf('lab/alice/app', ALICE)).toEqual(new Set([200]));
}

describe.each(['Basic', 'Bearer'] as const)('an upstream that wants %s', scheme => {
  beforeEach(() => start(scheme));

  test('opens an image for who may have it, whole and verified, and warm without being asked', async () => {
    const read = async ({ digest, mediaType }: ContentDescriptor) => {
      const kind = /manifest|index/.test(mediaType) ? 'manifests' : 'blobs';
      return (await ask(`/v2/lab/alice/app/${kind}/${digest}`, ALICE)).bytes();
    };
    expect((await ask('/v2/lab/alice/app/manifests/1', ALICE)).headers.get('docker-content-digest')).toBe(
      mine.root.digest,
    );
    expect(await checkImage(mine.root, read)).toHaveLength(1);
    app.registry.requests.length = 0;
    await checkImage(mine.root, read);
    expect(app.registry.requests).toEqual([]);
  });

  test('is not read by another user, nor by nobody, nor with a wrong password, whatever is kept', async () => {
    await warm();
    expect(await statusesOf('lab/alice/app', BOB)).toEqual(new Set([403]));
    expect(await statusesOf('lab/alice/app')).toEqual(new Set([401]));
    expect(await statusesOf('lab/alice/app', GUESS)).toEqual(new Set([401]));
    await app.restart();
    expect(await statusesOf('lab/alice/app', BOB)).toEqual(new Set([403]));
    expect(await statusesOf('lab/alice/app')).toEqual(new Set([401]));
  });

  test('has its image under no other name', async () => {
    await warm();
    for (const name of ['lab/bob/app', 'lab/open/app']) {
      const digests = routesTo(name).filter(([, path]) => path.includes('s/sha256:') && !path.includes('referrers'));
      for (const [method, path] of digests) {
        expect([path, (await ask(path, BOB, method)).status]).toEqual([path, 404]);
      }
    }
  });

  test('opens what is open to anyone, also for who has no credentials there', async () => {
    expect((await ask('/v2/lab/open/app/manifests/1')).status).toBe(200);
    expect((await ask('/v2/lab/open/app/manifests/1', BOB)).status).toBe(200);
  });

  test.each([
    ['within five minutes', 5 * MINUTE, {}],
    ['at once, where tags are asked for each time', 1, { cache: { tagFreshness: '0s' } }],
    ['within an hour, however long tags are believed', 60 * MINUTE, { cache: { tagFreshness: '30d' } }],
  ])('that shuts a user out is obeyed %s, by every route', async (_, afterMs, settings) => {
    await configure({ passCredentials: true }, settings);
    app.registry.intercept(privacy.intercept);
    await warm();
    privacy.revoke('alice');
    nowMs += afterMs;
    expect(await statusesOf('lab/alice/app', ALICE)).toEqual(new Set([401]));
  });

  test('gives nobody what was opened for another, after credentials were passed on and are no more, or were not and are', async () => {
    await warm();
    await configure({});
    expect(await statusesOf('lab/alice/app', ALICE)).toEqual(new Set([scheme === 'Basic' ? 401 : 403]));
    await configure({ credentials: { username: 'alice', password: 'canary-alice' } });
    expect(await statusesOf('lab/alice/app')).toEqual(new Set([200]));
    await configure({ passCredentials: true });
    expect(await statusesOf('lab/alice/app')).toEqual(new Set([401]));
    expect(await statusesOf('lab/alice/app', BOB)).toEqual(new Set([403]));
  });

  test('gets to see credentials where it asks, and they are nowhere else', async () => {
    await warm();
    await statusesOf('lab/alice/app', GUESS);
    await statusesOf('lab/alice/app', BOB);
    const token = await tokenOf(ALICE);
    await ask('/v2/lab/alice/app/manifests/1', `Bearer ${token}`);
    app.registry.intercept((_request, response) => Boolean(response.writeHead(500).end('canary-words')));
    await ask('/v2/lab/alice/app/manifests/2', ALICE);
    app.registry.intercept((_request, response) => Boolean(response.destroy()));
    await ask('/v2/lab/alice/app/manifests/2', ALICE);
    await ask('/v2/lab/alice/app/manifests/2', `${ALICE}!canary`);
    await ask('/v2/lab/alice/app/manifests/2', `Bearer ${token.slice(1)}`);
    await ask('/v2/lab/alice/app/manifests/2', 'Digest canary');
    const seen = app.registry.requests.flatMap(
      ({ headers }) => headers.authorization?.match(/^Bearer (.*)/)?.[1] ?? [],
    );
    const secrets = ['canary', 'alice:', ALICE.slice(6), BOB.slice(6), GUESS.slice(6), ...seen];
    const records = await readRecords(app);
    const log = app.log.join('');
    expect(log).toContain('request');
    for (const secret of secrets) {
      expect([log, said.join('')].filter(text => text.includes(secret))).toEqual([]);
      expect(records.includes(secret)).toBe(false);
    }
    expect(log).not.toContain(token);
    expect(records.includes(token)).toBe(false);
    for (const file of await filesOf(join(app.directory, 'data'))) {
      const text = await readFile(file);
      expect([file, text.includes('canary-alice'), text.includes(ALICE.slice(6))]).toEqual([file, false, false]);
    }
  });
});

describe('a client', () => {
  beforeEach(() => start('Bearer'));

  test('that pulls without credentials is told how to show some', async () => {
    const { status, headers } = await ask('/v2/lab/alice/app/manifests/1', undefined, 'HEAD');
    expect(status).toBe(401);
    expect(headers.get('www-authenticate')).toBe(
      `Bearer realm="http://${HOST}/token",service="veneer", Basic realm="veneer",charset="UTF-8"`,
    );
  });

  test('that asks before it pulls is told to get a token, with a login or without', async () => {
    const { status, headers } = await ask('/v2/');
    expect([status, headers.get('www-authenticate')]).toEqual([
      401,
      `Bearer realm="http://${HOST}/token",service="veneer"`,
    ]);
    for (const authorization of [ALICE, `Bearer ${await tokenOf(ALICE)}`, `Bearer ${await tokenOf()}`]) {
      expect((await ask('/v2/', authorization)).status).toBe(200);
    }
  });

  test('pulls with a token as with its credentials, and with one that it got without any as nobody', async () => {
    const [known, unknown] = [`Bearer ${await tokenOf(ALICE)}`, `Bearer ${await tokenOf()}`];
    expect((await ask('/v2/lab/alice/app/manifests/1', known)).status).toBe(200);
    expect((await ask('/v2/lab/alice/app/manifests/1', unknown)).status).toBe(401);
    expect((await ask('/v2/lab/open/app/manifests/1', unknown)).status).toBe(200);
    await app.restart();
    expect((await ask('/v2/lab/alice/app/manifests/1', known)).status).toBe(200);
  });

  test('gets another token when its own has expired', async () => {
    const token = await tokenOf(ALICE);
    nowMs += 5 * MINUTE;
    const { status, headers } = await ask('/v2/lab/alice/app/manifests/1', `Bearer ${token}`);
    expect([status, headers.get('www-authenticate')]).toEqual([401, expect.stringContaining('error="invalid_token"')]);
  });

  test('gets a token by POST too, with a password as long as clouds give out', async () => {
    const body = new URLSearchParams({ grant_type: 'password', username: 'AWS', password: 'p'.repeat(3000) });
    const response = await app.request('/token', {
      method: 'POST',
      headers: { 'Content-Type': 'application/x-www-form-urlencoded' },
      body: String(body),
    });
    expect(response.status).toBe(200);
    const { token } = tokenSchema.parse(await response.json());
    expect((await ask('/v2/lab/open/app/manifests/1', `Bearer ${token}`)).status).toBe(401);
    expect((await ask('/v2/', `Bearer ${token}`)).status).toBe(200);
  });

  test('shows nothing to other upstreams, whose pulls take any Authorization as before', async () => {
    app.registry.intercept();
    const other = { url: app.registry.url };
    await app.configure({ upstreams: { lab: { ...other, passCredentials: true }, other } });
    app.registry.requests.length = 0;
    for (const authorization of [ALICE, 'Bearer of-another-service', 'Digest x']) {
      expect((await ask('/v2/other/open/app/manifests/1', authorization)).status).toBe(200);
    }
    expect(app.registry.requests.flatMap(({ headers }) => headers.authorization ?? [])).toEqual([]);
  });

  test('is asked for nothing where no upstream sees credentials', async () => {
    await configure({});
    expect((await ask('/v2/')).status).toBe(200);
    expect((await ask('/token')).status).toBe(404);
  });
});

describe('an image that is changed on its way', () => {
  const containerConfig = { env: ['A=1'] };

  beforeEach(() => start('Basic'));

  test('by a token is read as its puller may: a submit itself is nobody at the upstream, and says so', async () => {
    const response = await app.request('/v1alpha2/container', {
      method: 'POST',
      headers: { authorization: ALICE },
      body: { containerImage: 'lab/alice/app:1', containerConfig },
    });
    expect([response.status, await response.json()]).toEqual([
      400,
      {
        message: expect.stringMatching(/^lab\/alice\/app:1: .*Veneer has none of its own for it \(passCredentials\)$/),
      },
    ]);
    const { name } = await app.submit({ containerImage: 'lab/open/app:1', containerConfig });
    const statuses = async () =>
      Promise.all([undefined, BOB, ALICE].map(async who => (await ask(`/v2/${name}/manifests/1`, who)).status));
    expect(await statuses()).toEqual([200, 200, 200]);
    privacy = createPrivacy({ scheme: 'Basic', users: { alice: { ...users.alice, repositories: ['open/app'] } } });
    app.registry.intercept(privacy.intercept);
    nowMs += 5 * MINUTE;
    expect(await statuses()).toEqual([401, 401, 200]);
  });

  test('by a rule is made for who may have the source, and is nobody else’s', async () => {
    const directory = join(app.directory, 'layer');
    await mkdir(directory);
    await writeFile(join(directory, 'note'), 'for who may have the image');
    const rules = [{ name: 'audit', match: { image: 'lab/**' }, labels: { audit: '1' }, layers: [{ directory }] }];
    await configure({ passCredentials: true }, { rules });
    const tagged = await ask('/v2/lab/alice/app/manifests/1', ALICE);
    const index = indexSchema.parse(await tagged.json());
    const root = tagged.headers.get('docker-content-digest') ?? '';
    expect([tagged.status, root === mine.root.digest]).toEqual([200, false]);
    const child = index.manifests[0]?.digest;
    const manifest = manifestSchema.parse(await (await ask(`/v2/lab/alice/app/manifests/${child}`, ALICE)).json());
    const blobs = [manifest.config, manifest.layers.at(-1)].map(blob => `blobs/${blob?.digest}`);
    const made = [`manifests/${root}`, `manifests/${child}`, ...blobs];
    const statuses = async (authorization?: string, method?: string) =>
      Promise.all(made.map(async path => (await ask(`/v2/lab/alice/app/${path}`, authorization, method)).status));
    expect(await statuses(ALICE)).toEqual([200, 200, 200, 200]);
    for (const method of ['GET', 'HEAD']) {
      expect(await statuses(BOB, method)).toEqual([403, 403, 403, 403]);
      expect(await statuses(undefined, method)).toEqual([401, 401, 401, 401]);
    }
    privacy.revoke('alice');
    nowMs += 5 * MINUTE;
    expect(await statuses(ALICE)).toEqual([401, 401, 401, 401]);
  });
});

async function tokenOf(authorization?: string): Promise<string> {
  const response = await app.request('/token?service=veneer&scope=repository:lab/alice/app:pull', {
    ...(authorization && { headers: { authorization } }),
  });
  return tokenSchema.parse(await response.json()).token;
}

async function filesOf(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name));
}

function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
