// Sessions of people in a browser: who has one is who he is today.
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type AccessFixture, htpasswdOf, openAccess } from './fixture.ts';

const ADDRESS = '192.0.2.1';
const USERS = { ada: 'secret', ben: 'other' };
const WRONG = 'wrong user name or password, or access token expired or revoked';

function sessionsOf({ access: { sessions } }: AccessFixture) {
  if (!sessions) throw new Error('there are no sessions');
  return sessions;
}

const login = (username: string, password: string) => ({ kind: 'password', username, password }) as const;

async function write({ directory }: AccessFixture, users: Readonly<Record<string, string>>): Promise<void> {
  const path = join(directory, 'htpasswd');
  // Another file, so that the change is seen whatever the clock of the disk.
  await rm(path);
  await writeFile(path, htpasswdOf(users));
}

test('a session is of the user who has opened it, and says nothing to anyone who reads the cookie', async () => {
  const sessions = sessionsOf(await openAccess({ users: USERS }));
  const { cookie } = await sessions.open(login('ada', 'secret'), ADDRESS);
  expect(await sessions.find(cookie, ADDRESS)).toEqual({ kind: 'user', name: 'ada' });
  expect(Buffer.from(cookie, 'base64url').toString()).not.toContain('ada');
  expect(cookie.length).toBeLessThan(1000);
});

test('opens for right passwords alone, and counts wrong ones as everywhere', async () => {
  const sessions = sessionsOf(await openAccess({ users: USERS }));
  for (let attempt = 0; attempt < 10; attempt += 1)
    await expect(sessions.open(login('ada', 'guess'), ADDRESS)).rejects.toThrow(WRONG);
  await expect(sessions.open(login('ada', 'guess'), ADDRESS)).rejects.toThrow('too many wrong passwords');
});

test('ends by itself after half a day, with its log-out, and with a change of one character', async () => {
  const fixture = await openAccess({ users: USERS });
  const sessions = sessionsOf(fixture);
  const { cookie, expiresAt } = await sessions.open(login('ada', 'secret'), ADDRESS);
  const other = await sessions.open(login('ada', 'secret'), ADDRESS);
  expect(expiresAt).toEqual(new Date('2030-01-01T12:00:00Z'));
  // Not its last character, four of whose six bits say nothing.
  const changed = `${cookie.slice(0, -2)}${cookie.at(-2) === 'A' ? 'B' : 'A'}${cookie.slice(-1)}`;
  for (const none of [changed, '', 'x', 'a.b.c.d.e', cookie.slice(1)])
    expect(await sessions.find(none, ADDRESS)).toBeUndefined();
  await sessions.end(cookie);
  await sessions.end('x');
  expect(await sessions.find(cookie, ADDRESS)).toBeUndefined();
  expect(await sessions.find(other.cookie, ADDRESS)).toBeDefined();
  fixture.pass(12 * 3600);
  expect(await sessions.find(other.cookie, ADDRESS)).toBeUndefined();
});

test('is ended for all processes that share the records', async () => {
  const fixture = await openAccess({ users: USERS });
  const access = await fixture.openOther();
  const others = sessionsOf({ ...fixture, access });
  const { cookie } = await sessionsOf(fixture).open(login('ada', 'secret'), ADDRESS);
  expect(await others.find(cookie, ADDRESS)).toEqual({ kind: 'user', name: 'ada' });
  await sessionsOf(fixture).end(cookie);
  expect(await others.find(cookie, ADDRESS)).toBeUndefined();
});

test('ends with the user, and with the password', async () => {
  const fixture = await openAccess({ users: USERS });
  const sessions = sessionsOf(fixture);
  const { cookie } = await sessions.open(login('ada', 'secret'), ADDRESS);
  const { cookie: ofBen } = await sessions.open(login('ben', 'other'), ADDRESS);
  await write(fixture, { ada: 'a new one' });
  expect([await sessions.find(cookie, ADDRESS), await sessions.find(ofBen, ADDRESS)]).toEqual([undefined, undefined]);
});

test('is opened by an access token, and ends when that is revoked', async () => {
  const fixture = await openAccess();
  const sessions = sessionsOf(fixture);
  const permissions = [{ repositories: [], allow: ['admin'] }] as const;
  const { token, secret } = await fixture.tokens.issue({ name: 'ops', permissions, ttlMs: 60_000 });
  const { cookie } = await sessions.open(login('anybody', secret), ADDRESS);
  const caller = await sessions.find(cookie, ADDRESS);
  expect(caller).toMatchObject({ kind: 'access-token', id: token.id });
  expect(caller && fixture.access.isAdmin(caller)).toBe(true);
  await fixture.tokens.revoke(token.id);
  expect(await sessions.find(cookie, ADDRESS)).toBeUndefined();
});

test('has what the network is granted that the request comes from', async () => {
  const grants = [{ networks: ['192.0.2.0/24'], repositories: ['local/**'], allow: ['pull'] }] as const;
  const { access } = await openAccess({ users: USERS, grants });
  const { sessions } = access;
  const { cookie = '' } = (await sessions?.open(login('ada', 'secret'), ADDRESS)) ?? {};
  const mayPull = async (address: string) => {
    const caller = await sessions?.find(cookie, address);
    return caller && access.isAllowed(caller, 'pull', 'local/app');
  };
  expect([await mayPull(ADDRESS), await mayPull('198.51.100.1')]).toEqual([true, false]);
});

test('is of one service: another key opens none, and a bearer token is none', async () => {
  const [one, other] = [await openAccess({ users: USERS }), await openAccess({ users: USERS })];
  const { cookie } = await sessionsOf(one).open(login('ada', 'secret'), ADDRESS);
  expect(await sessionsOf(other).find(cookie, ADDRESS)).toBeUndefined();
  const issued = await one.access.bearer?.issue({ credentials: login('ada', 'secret'), address: ADDRESS, asked: [] });
  expect(await sessionsOf(one).find(issued?.token ?? '', ADDRESS)).toBeUndefined();
  await expect(one.access.authenticate({ authorization: `Bearer ${cookie}` })).rejects.toThrow();
});
