// Who may do what by grants: for each kind of caller, verb and right.
import { generateKeyPairSync } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Access, AccessFault, type Caller } from '../../src/access/access.ts';
import { createBcrypt } from '../../src/access/bcrypt.ts';
import { createAccess } from '../../src/access/granted.ts';
import { verbs } from '../../src/access/right.ts';
import { createMemory } from '../../src/memory.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { basic, htpasswdOf, openAccess, START } from './fixture.ts';

const memory = createMemory();

describe('by grants', () => {
  const users = { ci: 'ci-password', reader: 'reader-password', nobody: 'nobody-password' };
  const grants = [
    { users: ['ci'], repositories: ['local/ci/**'], allow: ['pull', 'push'] },
    { users: ['ci', 'reader'], repositories: ['local/**'], allow: ['pull'] },
    { anyone: true, repositories: ['docker.io/**'], allow: ['pull'] },
  ] as const;

  test.each<[user: string, repository: string, expected: readonly string[]]>([
    ['ci', 'local/ci/app', ['pull', 'push']],
    ['ci', 'local/app', ['pull']],
    ['ci', 'docker.io/library/alpine', ['pull']],
    ['ci', 'quay.io/app', []],
    ['reader', 'local/ci/app', ['pull']],
    ['reader', 'quay.io/app', []],
    ['nobody', 'local/ci/app', []],
    ['nobody', 'docker.io/library/alpine', ['pull']],
  ])('the user %s may at %s: %s', async (user, repository, expected) => {
    const { access } = await openAccess({ users, grants });
    const authorization = basic(user, `${user}-password`);
    const caller = await access.authenticate({ authorization });
    expect(caller).toEqual({ kind: 'user', name: user });
    expect(allowed(access, caller, repository)).toEqual(expected);
  });

  test('who shows nothing may what anyone may', async () => {
    const { access } = await openAccess({ users, grants });
    const caller = await access.authenticate({});
    expect(allowed(access, caller, 'docker.io/library/alpine')).toEqual(['pull']);
    expect(allowed(access, caller, 'local/app')).toEqual([]);
  });

  test('an access token may what it was given, under any user name', async () => {
    const { access, tokens } = await openAccess({ users, grants });
    const permissions = [{ repositories: ['local/x/**'], allow: ['pull', 'push', 'delete'] }] as const;
    const { secret } = await tokens.issue({ name: 'ci', permissions, ttlMs: 60_000 });
    for (const name of ['', 'ci', 'anything']) {
      const caller = await access.authenticate({ authorization: basic(name, secret) });
      expect(allowed(access, caller, 'local/x/app')).toEqual(['pull', 'push', 'delete']);
      expect(allowed(access, caller, 'local/ci/app')).toEqual([]);
      expect(allowed(access, caller, 'docker.io/library/alpine')).toEqual(['pull']);
    }
  });

  test('with no grants nobody may anything', async () => {
    const { access } = await openAccess({ users });
    for (const authorization of [undefined, basic('ci', 'ci-password')]) {
      expect(allowed(access, await access.authenticate({ authorization }), 'local/app')).toEqual([]);
    }
  });

  test('a local caller is nobody here', async () => {
    const { access } = await openAccess({ grants });
    expect(await access.authenticate({ host: '127.0.0.1' })).toEqual({ kind: 'anonymous' });
    expect(allowed(access, { kind: 'local' }, 'local/app')).toEqual([]);
  });

  test.each([
    ['a wrong password', basic('ci', 'canary')],
    ['another user’s password', basic('reader', 'ci-password')],
    ['no password', basic('ci', '')],
    ['an unknown user', basic('canary', 'ci-password')],
    ['an unknown access token', basic('ci', `vnr_${'0'.repeat(40)}`)],
    ['a bearer token that is none', 'Bearer canary'],
    ['another scheme', 'Digest canary'],
  ])('%s is UNAUTHORIZED, and not quoted', async (_name, authorization) => {
    const { access } = await openAccess({ users, grants });
    const refusal = access.authenticate({ authorization });
    await expect(refusal).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
    await expect(refusal).rejects.not.toThrow(/canary|vnr_0/);
  });

  test('an access token is wrong once it is revoked, and once it has ended', async () => {
    const { access, tokens, pass } = await openAccess();
    const issue = () => tokens.issue({ name: 'ci', permissions: [], ttlMs: 60_000 });
    const [revoked, ended] = [await issue(), await issue()];
    await tokens.revoke(revoked.token.id);
    await expect(access.authenticate({ authorization: basic('', revoked.secret) })).rejects.toThrow(
      /expired or revoked/,
    );
    pass(60);
    await expect(access.authenticate({ authorization: basic('', ended.secret) })).rejects.toThrow(/expired or revoked/);
  });

  test('a refusal to who is known is DENIED, to others UNAUTHORIZED', async () => {
    const { access } = await openAccess({ users, grants });
    const pull = { repository: 'local/app', verbs: ['pull'] } as const;
    const push = { repository: 'local/app', verbs: ['push'] } as const;
    const bearer: Caller = { kind: 'bearer', subject: 'ci', access: [pull], refused: [] };
    const require = (caller: Caller) => () => access.requireRight(caller, 'push', 'local/app');
    expect(require({ kind: 'user', name: 'ci' })).toThrow(
      expect.objectContaining({
        code: 'DENIED',
        message: 'the user ci may not push local/app: neither access.grants nor a token allows it',
      }),
    );
    expect(require({ kind: 'access-token', id: '0123', permissions: [] })).toThrow(
      expect.objectContaining({ code: 'DENIED' }),
    );
    expect(require({ kind: 'anonymous' })).toThrow(expect.objectContaining({ code: 'UNAUTHORIZED' }));
    expect(require(bearer)).toThrow(expect.objectContaining({ code: 'UNAUTHORIZED' }));
    // Another token would hold no more: it was asked for, and refused.
    expect(require({ ...bearer, refused: [push] })).toThrow(expect.objectContaining({ code: 'DENIED' }));
    expect(require({ ...bearer, subject: '', refused: [push] })).toThrow(
      expect.objectContaining({ code: 'UNAUTHORIZED' }),
    );
  });

  test('passwords follow the file, and a fault in it is reported', async () => {
    const { access, directory, faults } = await openAccess({ users, grants, bcrypt: createBcrypt() });
    const authorization = basic('ci', 'newer');
    await expect(access.authenticate({ authorization })).rejects.toThrow(/wrong/);
    await writeFile(join(directory, 'htpasswd'), htpasswdOf({ ci: 'newer' }));
    expect(await access.authenticate({ authorization })).toEqual({ kind: 'user', name: 'ci' });
    await writeFile(join(directory, 'htpasswd'), 'ci:newer');
    await expect(access.authenticate({ authorization })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
    expect(faults).toHaveLength(1);
  });
});

describe('bearer tokens', () => {
  const grants = [
    { users: ['ci'], repositories: ['local/**'], allow: ['pull', 'push'] },
    { anyone: true, repositories: ['docker.io/**'], allow: ['pull'] },
  ] as const;
  const asked = [
    { repository: 'local/app', verbs },
    { repository: 'docker.io/library/alpine', verbs: ['pull', 'push'] },
    { repository: 'quay.io/app', verbs: ['pull'] },
  ] as const;

  test('hold what was asked for and is granted', async () => {
    const { access } = await openAccess({ users: { ci: 'x' }, grants });
    const credentials = { kind: 'password', username: 'ci', password: 'x' } as const;
    const issued = await access.bearer?.issue({ credentials, asked });
    expect(issued?.granted).toEqual([
      { repository: 'local/app', verbs: ['pull', 'push'] },
      { repository: 'docker.io/library/alpine', verbs: ['pull'] },
    ]);
    const caller = await access.authenticate({ authorization: `Bearer ${issued?.token}` });
    expect(caller).toMatchObject({ kind: 'bearer', subject: 'ci' });
    expect(allowed(access, caller, 'local/app')).toEqual(['pull', 'push']);
    expect(allowed(access, caller, 'local/other')).toEqual([]);
    expect(allowed(access, caller, 'docker.io/library/busybox')).toEqual(['pull']);
  });

  test('of nobody hold what anyone may', async () => {
    const { access } = await openAccess({ grants: grants.slice(1) });
    const issued = await access.bearer?.issue({ asked });
    expect(issued?.granted).toEqual([{ repository: 'docker.io/library/alpine', verbs: ['pull'] }]);
    const caller = await access.authenticate({ authorization: `Bearer ${issued?.token}` });
    expect(() => access.requireCaller(caller)).not.toThrow();
  });

  test('of an access token hold what it may, and name it', async () => {
    const { access, tokens } = await openAccess();
    const permissions = [{ repositories: ['local/*'], allow: ['delete'] }] as const;
    const { secret, token } = await tokens.issue({ name: 'ci', permissions, ttlMs: 60_000 });
    const credentials = { kind: 'password', username: '', password: secret } as const;
    const issued = await access.bearer?.issue({ credentials, asked });
    expect(issued?.granted).toEqual([{ repository: 'local/app', verbs: ['delete'] }]);
    const caller = await access.authenticate({ authorization: `Bearer ${issued?.token}` });
    expect(caller).toMatchObject({ subject: `token:${token.id}` });
  });

  test('are refused to wrong credentials', async () => {
    const { access } = await openAccess({ users: { ci: 'x' }, grants });
    const credentials = { kind: 'password', username: 'ci', password: 'y' } as const;
    await expect(access.bearer?.issue({ credentials, asked })).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  });

  test('outlive a restart, and end in their time', async () => {
    const { access, directory, pass } = await openAccess({ grants: [] });
    const issued = await access.bearer?.issue({ asked });
    const again = await createAccess({
      memory,
      options: { tokenTtlMs: 300_000, grants: [] },
      listenHost: '0.0.0.0',
      publicHost: undefined,
      records: createMemoryStore(),
      dataDir: directory,
      onFault: () => {},
      now: () => START,
    });
    const authorization = `Bearer ${issued?.token}`;
    expect(await again.authenticate({ authorization })).toMatchObject({ kind: 'bearer' });
    pass(300);
    await expect(access.authenticate({ authorization })).rejects.toThrow('the bearer token has expired');
  });
});

test('every fault of the grants stops the start, with its place', async () => {
  const options = {
    htpasswd: undefined,
    grants: [
      { anyone: true, repositories: ['local/**', 'Local'], allow: ['pull'] },
      { users: ['ci'], repositories: ['a/b**'], allow: ['pull'] },
    ],
  } as const;
  await expect(openAccess({ options })).rejects.toSatisfy(
    error =>
      error instanceof AccessFault &&
      /^access\.grants\.0\.repositories\.1: /.test(error.faults[0] ?? '') &&
      /^access\.grants\.1\.users: there are no users/.test(error.faults[1] ?? '') &&
      /^access\.grants\.1\.repositories\.0: /.test(error.faults[2] ?? ''),
  );
});

test.each([
  ['users', { htpasswd: '/nowhere/htpasswd' }, 'cannot read /nowhere/htpasswd (ENOENT)'],
  ['signing key', { signingKey: 'canary' }, 'access.signingKey: expected a private key'],
])('faulty %s stop the start', async (_name, options, message) => {
  await expect(openAccess({ options })).rejects.toThrow(message);
  await expect(openAccess({ options })).rejects.not.toThrow('canary');
});

test('a configured key is shared by replicas, and none is made', async () => {
  const { privateKey } = generateKeyPairSync('ed25519');
  const signingKey = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  const [one, other] = [await openAccess({ options: { signingKey } }), await openAccess({ options: { signingKey } })];
  const issued = await one.access.bearer?.issue({ asked: [] });
  expect(await other.access.authenticate({ authorization: `Bearer ${issued?.token}` })).toMatchObject({
    kind: 'bearer',
  });
  expect(await readdir(one.directory)).toEqual(['htpasswd']);
});

function allowed(access: Access, caller: Caller, repository: string): readonly string[] {
  return verbs.filter(verb => access.isAllowed(caller, verb, repository));
}
