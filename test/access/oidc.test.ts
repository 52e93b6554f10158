// Callers by tokens of a real OpenID Connect issuer: what each claim decides, and what an issuer that is away changes.
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Grant } from '../../src/access/access.ts';
import { createAccess } from '../../src/access/granted.ts';
import { createMemory } from '../../src/memory.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { AUDIENCE, startIssuer, type TestIssuer } from '../support/oidc.ts';
import { basic, temporaryDirectory } from './fixture.ts';

const GRANTS: readonly Grant[] = [
  { users: ['oidc:alice'], repositories: ['local/alice/**'], allow: ['pull', 'push'] },
  { groups: ['pipelines'], repositories: ['local/builds'], allow: ['build'] },
  { groups: ['ops'], repositories: [], allow: ['admin'] },
];

let provider: TestIssuer;

beforeEach(async () => {
  provider = await startIssuer();
});

afterEach(() => provider.stop());

async function open({ grants = GRANTS, oidc = {} }: { grants?: readonly Grant[]; oidc?: object } = {}) {
  const clock = { ms: Date.now() };
  const now = () => new Date(clock.ms);
  const faults: string[] = [];
  const dataDir = await temporaryDirectory();
  const defaults = { audience: [AUDIENCE], usernameClaim: 'sub', groupsClaim: 'groups', clockSkewMs: 30_000 };
  const access = await createAccess({
    options: { tokenTtlMs: 300_000, grants, oidc: { issuer: provider.issuer, ...defaults, ...oidc } },
    ...{ memory: createMemory(), records: createMemoryStore({ now }), dataDir, now },
    ...{ listenHost: '0.0.0.0', publicHost: undefined },
    onFault: () => {},
    onIssuerFault: reason => faults.push(reason),
  });
  onTestFinished(() => access.close());
  function pass(seconds: number): void {
    clock.ms += seconds * 1000;
  }
  return { access, faults, pass };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

test('its token is a user with groups, as bearer and as a password', async () => {
  const { access } = await open();
  const token = await provider.token({ groups: ['pipelines', 'ops'] });
  const caller = await access.authenticate(bearer(token));
  expect(caller).toEqual({ kind: 'user', name: 'oidc:alice', groups: ['pipelines', 'ops'] });
  expect(await access.authenticate({ authorization: basic('anything', token) })).toEqual(caller);
  expect(access.isAllowed(caller, 'push', 'local/alice/app')).toBe(true);
  expect(access.isAllowed(caller, 'build', 'local/builds')).toBe(true);
  expect(access.isAllowed(caller, 'push', 'local/builds')).toBe(false);
  expect(access.isAdmin(caller)).toBe(true);
  expect(access.isAdmin(await access.authenticate(bearer(await provider.token())))).toBe(false);
});

test('its token gets a bearer token of ours, with what its groups are granted', async () => {
  const { access } = await open();
  const token = await provider.token({ groups: ['pipelines'] });
  const asked = [{ repository: 'local/alice/app', verbs: ['pull', 'push', 'delete'] }] as const;
  const issued = await access.bearer?.issue({
    credentials: { kind: 'password', username: '', password: token },
    asked,
  });
  expect(issued?.granted).toEqual([{ repository: 'local/alice/app', verbs: ['pull', 'push'] }]);
  const caller = await access.authenticate(bearer(issued?.token ?? ''));
  expect(caller).toMatchObject({ kind: 'bearer', subject: 'oidc:alice' });
});

test('other claims can name the user and the groups', async () => {
  const { access } = await open({ oidc: { usernameClaim: 'email', groupsClaim: 'roles' } });
  const token = await provider.token({ email: 'a@example.com', roles: 'ops' });
  expect(await access.authenticate(bearer(token))).toMatchObject({ name: 'oidc:a@example.com', groups: ['ops'] });
});

describe('refused', () => {
  test.each([
    ['for another audience', { audience: 'https://other.example' }, 0, 'its claim "aud" is not acceptable: expected'],
    ['that has expired', { ttlSeconds: 60 }, 600, 'it has expired'],
    ['with a name that is none', { name: 7 }, 0, 'it has no name of at most 255 characters in its claim "name"'],
    ['with a line break in its name', { name: 'a\nb' }, 0, 'it has no name'],
    ['with groups that are none', { name: 'a', groups: { a: 1 } }, 0, 'its claim "groups" is no list'],
  ])('is a token %s', async (_, claims, seconds, reason) => {
    const { access, pass } = await open({ oidc: 'name' in claims ? { usernameClaim: 'name' } : {} });
    const token = await provider.token(claims);
    pass(seconds);
    const refusal = access.authenticate(bearer(token));
    await expect(refusal).rejects.toMatchObject({ code: 'UNAUTHORIZED', message: expect.stringContaining(reason) });
    await expect(refusal).rejects.not.toMatchObject({ message: expect.stringContaining(token.slice(0, 20)) });
  });

  test('is not a token that has expired within the clock skew', async () => {
    const { access, pass } = await open();
    const token = await provider.token({ ttlSeconds: 60 });
    pass(80);
    expect(await access.authenticate(bearer(token))).toMatchObject({ name: 'oidc:alice' });
  });

  test('is a token with a signature of another key, or with none', async () => {
    const { access } = await open();
    const { privateKey } = await generateKeyPair('ES256');
    const claims = { iss: provider.issuer, aud: AUDIENCE, sub: 'alice', exp: Math.floor(Date.now() / 1000) + 600 };
    const sign = (kid: string) => new SignJWT(claims).setProtectedHeader({ alg: 'ES256', kid }).sign(privateKey);
    for (const kid of ['key-0', 'key-9'])
      await expect(access.authenticate(bearer(await sign(kid)))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const unsigned = `${encode({ alg: 'none' })}.${encode(claims)}.AA`;
    await expect(access.authenticate(bearer(unsigned))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  test('is a token that the public key has signed as a secret', async () => {
    const { access } = await open();
    const { publicKey } = await generateKeyPair('ES256', { extractable: true });
    const secret = Buffer.from(JSON.stringify(await exportJWK(publicKey)));
    const token = await new SignJWT({ iss: provider.issuer, aud: AUDIENCE, sub: 'alice' })
      .setProtectedHeader({ alg: 'HS256', kid: 'key-0' })
      .setExpirationTime('10m')
      .sign(secret);
    await expect(access.authenticate(bearer(token))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  test('is not a token of another issuer: it is nothing to us', async () => {
    const { access } = await open({ oidc: { issuer: 'https://other.example' } });
    const token = await provider.token();
    expect(access.recognizes(token)).toBe(false);
  });
});

describe('keys', () => {
  test('are fetched once, and again for a key that is new', async () => {
    const { access, pass } = await open();
    await access.authenticate(bearer(await provider.token()));
    await access.authenticate(bearer(await provider.token()));
    expect(provider.keyRequests()).toBe(1);
    await provider.rotate();
    pass(11);
    expect(await access.authenticate(bearer(await provider.token()))).toMatchObject({ name: 'oidc:alice' });
    expect(provider.keyRequests()).toBe(2);
  });

  test('are not fetched for each key id that somebody has made up', async () => {
    const { access } = await open();
    await access.authenticate(bearer(await provider.token()));
    const { privateKey } = await generateKeyPair('ES256');
    for (let at = 0; at < 20; at += 1) {
      const token = await new SignJWT({ iss: provider.issuer, aud: AUDIENCE, sub: 'a' })
        .setProtectedHeader({ alg: 'ES256', kid: `made-up-${at}` })
        .setExpirationTime('10m')
        .sign(privateKey);
      await expect(access.authenticate(bearer(token))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    }
    expect(provider.keyRequests()).toBeLessThanOrEqual(2);
  });

  test('that the issuer has withdrawn are refused once they were refetched', async () => {
    const { access, pass } = await open();
    const old = await provider.token({ ttlSeconds: 3600 });
    await access.authenticate(bearer(old));
    await provider.rotate();
    pass(601);
    await expect.poll(() => access.authenticate(bearer(old)).catch(error => error.code)).toBe('UNAUTHORIZED');
  });

  test('stay in use while the issuer is away, for a day', async () => {
    const { access, pass, faults } = await open();
    const token = await provider.token({ ttlSeconds: 3 * 86_400 });
    await access.authenticate(bearer(token));
    await provider.stop();
    for (let hour = 0; hour < 23; hour += 1) {
      pass(3600);
      expect(await access.authenticate(bearer(token))).toMatchObject({ name: 'oidc:alice' });
    }
    await expect.poll(() => faults.length).toBe(1);
    pass(2 * 3600);
    await expect(access.authenticate(bearer(token))).rejects.toMatchObject({ code: 'UNAVAILABLE', status: 503 });
    await provider.start();
    pass(11);
    expect(await access.authenticate(bearer(token))).toMatchObject({ name: 'oidc:alice' });
  });

  test('an issuer that is away stops no start: its tokens are a 503, and others are as ever', async () => {
    const token = await provider.token();
    await provider.stop();
    const { access, faults, pass } = await open();
    const message = expect.stringMatching(/^the keys of the OIDC issuer .* cannot be fetched: .*ECONNREFUSED/);
    const refusal = { code: 'UNAVAILABLE', status: 503, message, retryAfterSeconds: 10 };
    await expect(access.authenticate(bearer(token))).rejects.toMatchObject(refusal);
    expect(await access.authenticate({})).toEqual({ kind: 'anonymous' });
    expect(faults).toHaveLength(1);
    await provider.start();
    pass(11);
    expect(await access.authenticate(bearer(token))).toMatchObject({ name: 'oidc:alice' });
  });
});

test('what a user was given out is worth what the groups of the last token may', async () => {
  const { access, pass } = await open();
  const may = () => access.mayStill({ subject: 'oidc:alice' }, 'build', 'local/builds');
  expect(await may()).toBe(false);
  await access.authenticate(bearer(await provider.token({ groups: ['pipelines'] })));
  expect(await may()).toBe(true);
  await access.authenticate(bearer(await provider.token({ groups: [] })));
  expect(await may()).toBe(false);
  await access.authenticate(bearer(await provider.token({ groups: ['pipelines'] })));
  pass(31 * 86_400);
  expect(await may()).toBe(false);
});

test.each([
  [{ users: ['oidc:alice'], repositories: ['local/**'], allow: ['pull'] }, 'names with oidc: need access.oidc'],
  [{ groups: ['a'], repositories: ['local/**'], allow: ['pull'] }, 'there are no groups without access.oidc'],
  [{ networks: ['10.0.0.0'], repositories: ['local/**'], allow: ['pull'] }, 'expected a network such as 10.0.0.0/8'],
] as const)('a grant to nobody stops the start: %j', async (grant, fault) => {
  const options = { tokenTtlMs: 300_000, grants: [grant] };
  const dataDir = await temporaryDirectory();
  const records = createMemoryStore({ now: () => new Date() });
  const rest = { memory: createMemory(), records, dataDir, now: () => new Date(), onFault: () => {} };
  const start = createAccess({ options, ...rest, listenHost: '0.0.0.0', publicHost: undefined });
  await expect(start).rejects.toThrow(fault);
});

describe('by networks', () => {
  const grants: readonly Grant[] = [
    { networks: ['10.0.0.0/8', 'fd00::/16'], repositories: ['local/builds'], allow: ['pull', 'build'] },
    { anyone: true, repositories: ['docker.io/**'], allow: ['pull'] },
  ];

  test.each([
    ['10.1.2.3', true],
    ['::ffff:10.1.2.3', true],
    ['fd00::7', true],
    ['11.0.0.1', false],
    ['fd01::7', false],
    ['127.0.0.1', false],
    ['', false],
    ['no address', false],
  ])('%s may build: %s', async (address, isGranted) => {
    const { access } = await open({ grants });
    const caller = await access.authenticate({ address });
    expect(access.isAllowed(caller, 'build', 'local/builds')).toBe(isGranted);
    expect(access.isAllowed(caller, 'push', 'local/builds')).toBe(false);
    expect(access.isAllowed(caller, 'pull', 'docker.io/library/alpine')).toBe(true);
    expect(access.isAdmin(caller)).toBe(false);
  });

  test('comes on top of what a user may, and not with a bearer token to another network', async () => {
    const { access } = await open({ grants: [...grants, ...GRANTS] });
    const token = await provider.token();
    const inside = await access.authenticate({ ...bearer(token), address: '10.0.0.1' });
    expect(access.isAllowed(inside, 'push', 'local/alice/app')).toBe(true);
    expect(access.isAllowed(inside, 'build', 'local/builds')).toBe(true);
    const asked = [{ repository: 'local/builds', verbs: ['pull'] }] as const;
    const issued = await access.bearer?.issue({ asked, address: '10.0.0.1' });
    const outside = await access.authenticate({ ...bearer(issued?.token ?? ''), address: '11.0.0.1' });
    expect(access.isAllowed(outside, 'pull', 'local/builds')).toBe(false);
  });

  test('what was given out there is worth what the network may today', async () => {
    const { access } = await open({ grants });
    const holder = { subject: '', networks: ['10.0.0.0/8'] };
    expect(await access.mayStill(holder, 'pull', 'local/builds')).toBe(true);
    const { access: without } = await open({ grants: grants.slice(1) });
    expect(await without.mayStill(holder, 'pull', 'local/builds')).toBe(false);
  });
});
