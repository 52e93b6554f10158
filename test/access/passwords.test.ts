// Checking passwords: what is compared, how often, and when guessing ends.
import { compareSync, hashSync } from 'bcryptjs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createBcrypt } from '../../src/access/bcrypt.ts';
import { createPasswords } from '../../src/access/passwords.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { START } from './fixture.ts';

const HASHES = { ci: hashSync('right', 4), ops: hashSync('other', 5) };

test('knows a right password from a wrong one, and another user', async () => {
  const { check } = createFixture();
  expect(await check('ci', 'right')).toBe(true);
  expect(await check('ci', 'wrong')).toBe(false);
  expect(await check('ops', 'right')).toBe(false);
  expect(await check('nobody', 'right')).toBe(false);
});

test('works as hard for a user that is not there, at the highest cost of the file', async () => {
  const { check, compared } = createFixture();
  await check('nobody', 'right');
  expect(compared).toEqual([expect.stringMatching(/^\$2b\$05\$\.{53}$/)]);
});

test('a right password is compared once, until it has not been used for five minutes', async () => {
  const { check, compared, pass } = createFixture();
  for (let i = 0; i < 3; i++) {
    await check('ci', 'right');
    pass(299);
  }
  expect(compared).toHaveLength(1);
  pass(301);
  expect(await check('ci', 'right')).toBe(true);
  expect(compared).toHaveLength(2);
});

test('a password that was right is wrong once the file has another', async () => {
  const { check, hashes } = createFixture();
  await check('ci', 'right');
  hashes.set('ci', hashSync('newer', 4));
  expect(await check('ci', 'right')).toBe(false);
  hashes.delete('ci');
  expect(await check('ci', 'right')).toBe(false);
});

test('equal checks at the same time are one', async () => {
  const { check, compared } = createFixture();
  expect(await Promise.all(Array.from({ length: 20 }, () => check('ci', 'right')))).not.toContain(false);
  expect(compared).toHaveLength(1);
});

test('a password that bcrypt would cut is refused', async () => {
  const { check, compared } = createFixture();
  await expect(check('ci', 'ä'.repeat(37))).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  expect(compared).toHaveLength(0);
});

describe('guessing', () => {
  test('one user is stopped after ten wrong passwords, until a minute has gone', async () => {
    const { check, compared, pass } = createFixture();
    for (let i = 0; i < 10; i++) expect(await check('ci', `wrong ${i}`)).toBe(false);
    pass(20);
    await expect(check('ci', 'right')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS', retryAfterSeconds: 40 });
    expect(compared).toHaveLength(10);
    pass(40);
    expect(await check('ci', 'right')).toBe(true);
  });

  test('at the same time is counted too', async () => {
    const { check, compared } = createFixture();
    const answers = await Promise.allSettled(Array.from({ length: 30 }, (_, i) => check('ci', `wrong ${i}`)));
    expect(answers.filter(({ status }) => status === 'rejected')).toHaveLength(20);
    expect(compared).toHaveLength(10);
  });

  test('does not keep out who has just shown the right password, nor others', async () => {
    const { check } = createFixture();
    await check('ci', 'right');
    for (let i = 0; i < 10; i++) await check('ci', `wrong ${i}`);
    expect(await check('ci', 'right')).toBe(true);
    expect(await check('ops', 'other')).toBe(true);
    expect(await check('ci', 'wrong', '192.0.2.2')).toBe(false);
  });

  test('of one user is not forgotten while thousands of made-up names are guessed at', async () => {
    // At a cost that lets a minute have so many.
    const bcrypt = { compare: async () => false };
    const users = { read: async () => new Map(Object.entries(HASHES)) };
    const passwords = createPasswords({ users, bcrypt, now: () => START });
    const check = (username: string, password: string, address: string) =>
      passwords.check({ kind: 'password', username, password }, address);
    const guess = (name: string) => check(name, 'wrong', '10.0.0.1');
    for (let i = 0; i < 10; i++) await check('ci', `wrong ${i}`, '10.0.0.1');
    for (let i = 0; i < 12_000; i++) await guess(`user ${i}`);
    await expect(guess('ci')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
    // Nor of a made-up one, or the difference would tell.
    for (let i = 0; i < 9; i++) await check('user 0', `wrong ${i}`, '10.0.0.1');
    await expect(guess('user 0')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
  });

  test('is not what had no room', async () => {
    const full = new RegistryError('TOOMANYREQUESTS', 'too many');
    const { check, fail } = createFixture();
    fail(full);
    for (let i = 0; i < 100; i++) await expect(check('ci', `wrong ${i}`, '2606:4700::1')).rejects.toBe(full);
    fail(undefined);
    expect(await check('ci', 'right', '2606:4700::1')).toBe(true);
  });

  test('of many names shuts no right password out, which is compared with the same work as all', async () => {
    const bcrypt = createBcrypt({ refusalDelayMs: 20 });
    onTestFinished(() => bcrypt.close());
    const hashes = new Map(Array.from({ length: 24 }, (_, i) => [`user ${i}`, hashSync('right', 4 + (i % 3))]));
    const { check } = createPasswords({
      users: { read: async () => hashes },
      bcrypt,
      now: () => new Date(),
    });
    const login = (username: string, password: string) => check({ kind: 'password', username, password }, '127.0.0.1');
    let isOver = false;
    let guesses = 0;
    const guessers = Array.from({ length: 200 }, async (_, i) => {
      for (let at = 0; !isOver; at++) {
        await login(`made up ${i} ${at}`, 'wrong').catch(() => {});
        guesses++;
      }
    });
    await expect.poll(() => guesses).toBeGreaterThan(200);
    expect(await Promise.all(Array.from(hashes.keys(), name => login(name, 'right')))).toEqual(Array(24).fill(true));
    isOver = true;
    await Promise.all(guessers);
  });

  test('right passwords do not count', async () => {
    const { check, pass } = createFixture();
    for (let i = 0; i < 30; i++) {
      expect(await check('ci', 'right')).toBe(true);
      pass(301);
    }
  });

  test('many users is stopped by the network of a public address', async () => {
    const { check } = createFixture();
    for (let i = 0; i < 50; i++) await check(`user ${i}`, 'wrong', `2606:4700:0:1::${i}`);
    await expect(check('user 50', 'wrong', '2606:4700:0:1::ffff')).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
    expect(await check('user 50', 'wrong', '2606:4700:0:2::1')).toBe(false);
  });

  test.each(['10.0.0.1', '127.0.0.1', 'fd00::1', ''])(
    'many users is not stopped behind %s, which may be a proxy',
    async address => {
      const { check } = createFixture();
      for (let i = 0; i < 60; i++) expect(await check(`user ${i}`, 'wrong', address)).toBe(false);
    },
  );
});

function createFixture() {
  const clock = { time: START.getTime() };
  const hashes = new Map(Object.entries(HASHES));
  const compared: string[] = [];
  let failure: Error | undefined;
  const passwords = createPasswords({
    users: { read: async () => hashes },
    bcrypt: {
      async compare(password, hash) {
        compared.push(hash);
        if (failure) throw failure;
        return compareSync(password, hash);
      },
    },
    now: () => new Date(clock.time),
  });
  return {
    hashes,
    compared,
    /** What each comparison from now on fails with. */
    fail: (error: Error | undefined) => {
      failure = error;
    },
    check: (username: string, password: string, address = '192.0.2.1') =>
      passwords.check({ kind: 'password', username, password }, address),
    pass(seconds: number) {
      clock.time += seconds * 1000;
    },
  };
}
