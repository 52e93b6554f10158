// Upstreams that see the credentials of clients: each client its own, sent where ours would go and nowhere else.
import { describe, expect, test } from 'vitest';
import { createMemory } from '../../src/memory.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { basic } from '../../src/upstream/auth/credentials.ts';
import type { UpstreamEntry } from '../../src/upstream/registry/registry-client.ts';
import { createPrivacy } from '../support/private-registry.ts';
import { startRegistry } from '../support/registry.ts';
import { createTestClock, everythingOf, failure, json, listen, open } from './server.ts';

const MINUTE = 60_000;
const KEY = Buffer.alloc(32, 7);
const alice = { username: 'alice', password: 'canary-alice' };
const bob = { username: 'bob', password: 'canary-bob' };
const users = {
  alice: { password: alice.password, repositories: ['alice/app'] },
  bob: { password: bob.password, repositories: ['bob/app'] },
};
const raw = Buffer.from('{}');

function openCredentialPassThrough(
  entry: UpstreamEntry,
  { lifeMs = 5 * MINUTE, key = KEY, memory = createMemory() } = {},
) {
  const clock = createTestClock();
  const upstreams = open({ lab: { ...entry, passCredentials: true } }, { scopes: { key, lifeMs }, clock, memory });
  return { clock, upstreams, as: (shown?: typeof alice) => upstreams.get('lab', () => shown) };
}

async function startPrivate(scheme: 'Basic' | 'Bearer') {
  const registry = await startRegistry();
  const privacy = createPrivacy({ scheme, users, open: ['open/app'] });
  registry.intercept(privacy.intercept);
  for (const name of ['alice/app', 'bob/app', 'open/app']) {
    registry.put(name, [{ mediaType: 'application/json', raw, tags: ['1'] }]);
  }
  return { registry, privacy, ...openCredentialPassThrough({ url: registry.url }) };
}

describe.each(['Basic', 'Bearer'] as const)('a registry that wants %s', scheme => {
  test('is shown the credentials of the client that pulls, and opens what they open', async () => {
    const { registry, as } = await startPrivate(scheme);
    expect((await as(alice).getManifest('alice/app', '1')).digest).toBe(digestOf(raw));
    expect((await as(bob).getManifest('bob/app', '1')).digest).toBe(digestOf(raw));
    expect(await failure(as(bob).getManifest('alice/app', '1'))).toMatchObject({ status: 403 });
    expect(await failure(as(alice).getManifest('bob/app', '1'))).toMatchObject({ status: 403 });
    await registry.close();
  });

  test('is anonymous for a client that shows none, and 401 where it wants some', async () => {
    const { registry, as } = await startPrivate(scheme);
    expect((await as().getManifest('open/app', '1')).digest).toBe(digestOf(raw));
    expect(await failure(as().getManifest('alice/app', '1'))).toMatchObject({
      code: 'UNAUTHORIZED',
      status: 401,
      message: expect.stringContaining('(passCredentials)'),
    });
    const shown = registry.requests.flatMap(({ headers }) => headers.authorization ?? []);
    expect(shown.filter(header => header.startsWith('Basic'))).toEqual([]);
    await registry.close();
  });

  test('says 401 to wrong ones, and no error tells them', async () => {
    const { registry, as } = await startPrivate(scheme);
    const error = await failure(as({ ...alice, password: 'canary-guess' }).getManifest('alice/app', '1'));
    expect(error).toMatchObject({ status: 401 });
    expect(everythingOf(error)).not.toMatch(/canary|alice:|YWxpY2U/);
    await registry.close();
  });

  test('is asked with credentials again when the time of a scope is over, and a client that was shut out stays out', async () => {
    const { registry, privacy, clock, as } = await startPrivate(scheme);
    await as(alice).getManifest('alice/app', '1');
    const { scope } = as(alice);
    privacy.revoke('alice');
    clock.pass((scope?.endsAt.getTime() ?? 0) - clock.now().getTime());
    expect(as(alice).scope?.id).not.toBe(scope?.id);
    registry.requests.length = 0;
    expect(await failure(as(alice).getManifest('alice/app', '1'))).toMatchObject({ status: 401 });
    expect(registry.requests[0]?.headers.authorization).toBeUndefined();
    await registry.close();
  });
});

describe('a scope', () => {
  test('is that of one client for one time, and the same after a restart', () => {
    const { clock, as } = openCredentialPassThrough({ url: 'http://127.0.0.1:1' });
    const again = openCredentialPassThrough({ url: 'http://127.0.0.1:1' });
    expect(as(alice)).toBe(as({ ...alice }));
    expect(again.as(alice).scope).toEqual(as(alice).scope);
    const ids = [as(alice), as(bob), as({ ...alice, password: 'other' }), as()].map(({ scope }) => scope?.id);
    expect(new Set(ids).size).toBe(4);
    expect(ids.join()).toMatch(/^[\w,-]+$/);
    clock.pass(5 * MINUTE);
    expect(ids).not.toContain(as(alice).scope?.id);
  });

  test('ends within its time, for each client at moments of its own', () => {
    const { clock, as } = openCredentialPassThrough({ url: 'http://127.0.0.1:1' });
    const ends = Array.from({ length: 20 }, (_, at) =>
      as({ username: `u${at}`, password: 'p' }).scope?.endsAt.getTime(),
    );
    const left = ends.map(end => (end ?? 0) - clock.now().getTime());
    expect(left.every(ms => ms > 0 && ms <= 5 * MINUTE)).toBe(true);
    expect(new Set(left).size).toBeGreaterThan(15);
  });

  test('ends when it ends although it was forgotten meanwhile, as the least used of many', () => {
    const { as } = openCredentialPassThrough({ url: 'http://127.0.0.1:1' }, { memory: createMemory(1024 ** 2) });
    const before = as(alice);
    for (let at = 0; at < 100; at++) as({ username: `u${at}`, password: 'p' });
    expect(as(alice)).not.toBe(before);
    expect(as(alice).scope).toEqual(before.scope);
  });

  test.each([
    ['another key', { key: Buffer.alloc(32, 8) }],
    ['another length of its times', { lifeMs: MINUTE }],
  ])('is another one with %s', (_, options) => {
    const { as } = openCredentialPassThrough({ url: 'http://127.0.0.1:1' });
    expect(openCredentialPassThrough({ url: 'http://127.0.0.1:1' }, options).as(alice).scope?.id).not.toBe(
      as(alice).scope?.id,
    );
  });

  test('is none where credentials are not passed on: what a client shows is not asked for', () => {
    const upstreams = open({ lab: { url: 'http://127.0.0.1:1' } });
    const show = () => {
      throw new Error('asked');
    };
    expect(upstreams.get('lab', show).scope).toBeUndefined();
    expect(upstreams.get('quay.io', show).scope).toBeUndefined();
  });

  test('is there for a registry that is offline, too, and nothing of it is asked', async () => {
    const { as } = openCredentialPassThrough({ url: 'http://127.0.0.1:1', offline: true });
    expect(as(alice).scope?.id).not.toBe(as(bob).scope?.id);
    expect(await failure(as(alice).getManifest('a', '1'))).toMatchObject({ code: 'UNAVAILABLE', status: 503 });
  });
});

describe('credentials of a client', () => {
  test('are not those of docker’s config.json, for which nobody is asked', async () => {
    const server = await listen((_, res) => json(res, 401, {}, { 'www-authenticate': 'Basic realm="lab"' }));
    const { upstreams, as } = openCredentialPassThrough({ url: server.url });
    await failure(as().getManifest('a', '1'));
    expect(server.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    expect(await upstreams.findCredentials('lab')).toBeUndefined();
  });

  test('do not go along with a redirect to another host', async () => {
    const elsewhere = await listen((_, res) => res.end('{}'));
    const server = await listen((req, res) => {
      if (!req.headers.authorization) return json(res, 401, {}, { 'www-authenticate': 'Basic realm="lab"' });
      res.writeHead(307, { location: `${elsewhere.url}/blob` }).end();
    });
    const { as } = openCredentialPassThrough({ url: server.url, redirectHosts: [`127.0.0.1:${elsewhere.port}`] });
    await as(alice).getManifest('a', '1');
    expect(server.requests.at(-1)?.headers.authorization).toBe(basic(alice));
    expect(elsewhere.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  test('do not go to a token realm of another domain', async () => {
    const header = 'Bearer realm="https://tokens.elsewhere.example/token"';
    const server = await listen((_, res) => json(res, 401, {}, { 'www-authenticate': header }));
    const { as } = openCredentialPassThrough({ url: server.url });
    const error = await failure(as(alice).getManifest('a', '1'));
    expect(error).toMatchObject({ status: 502, message: expect.stringContaining('tokens.elsewhere.example') });
    expect(everythingOf(error)).not.toContain('canary');
  });
});

test('what limits one client does not limit another, and what they share is still limited', async () => {
  const server = await listen((req, res) => {
    if (!req.headers.authorization) return json(res, 401, {}, { 'www-authenticate': 'Basic realm="lab"' });
    if (req.headers.authorization === basic(alice)) return json(res, 429, {}, { 'retry-after': '600' });
    res.end('{}');
  });
  const { clock, as } = openCredentialPassThrough({ url: server.url, rate: { count: 5, perMs: 3600_000 } });
  expect(await failure(as(alice).getManifest('a', '1'))).toMatchObject({ status: 429 });
  const { length } = server.requests;
  clock.pass(5 * MINUTE);
  expect(await failure(as(alice).getManifest('a', '1'))).toMatchObject({ status: 429, retryAfterSeconds: 300 });
  expect(server.requests).toHaveLength(length);
  await as(bob).getManifest('a', '1');
  expect(
    await failure(
      as(bob)
        .getManifest('a', '2')
        .then(() => as(bob).getManifest('a', '3')),
    ),
  ).toMatchObject({
    status: 429,
  });
});
