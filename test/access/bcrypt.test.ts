// Comparing passwords in a thread.
import { hashSync } from 'bcryptjs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Bcrypt, createBcrypt } from '../../src/access/bcrypt.ts';
import { hashOfNothing } from '../../src/access/user-file.ts';

test('tells a right password from a wrong one, in every spelling of the hash', async () => {
  const bcrypt = open();
  const hash = hashSync('right', 4);
  for (const spelling of ['$2a$', '$2b$', '$2y$'].map(prefix => hash.replace('$2b$', prefix))) {
    expect(await bcrypt.compare('right', spelling)).toBe(true);
    expect(await bcrypt.compare('wrong', spelling)).toBe(false);
  }
});

test('keeps the answers of many apart', async () => {
  const bcrypt = open();
  const hashes = Array.from({ length: 20 }, (_, i) => hashSync(`password ${i}`, 4));
  const answers = await Promise.all(hashes.map((hash, i) => bcrypt.compare(`password ${i - (i % 2)}`, hash)));
  expect(answers).toEqual(hashes.map((_, i) => i % 2 === 0));
});

test('lets other work go on while it compares', async () => {
  const bcrypt = open();
  await bcrypt.compare('start the thread', hashSync('x', 4));
  const hash = hashSync('y', 4).replace('$04$', '$12$');
  const all = process.cpuUsage();
  const own = process.threadCpuUsage();
  expect(await bcrypt.compare('x', hash)).toBe(false);
  // Whatever else the machine does, this thread has nearly nothing of the work.
  expect(process.threadCpuUsage(own).user).toBeLessThan(process.cpuUsage(all).user / 2);
});

test('takes as long for a cheap hash as for a dear one', async () => {
  const bcrypt = open();
  const hashes = { cheap: hashSync('x', 4), dear: hashSync('x', 9), none: hashOfNothing(9) };
  const shortest: Record<string, number> = {};
  for (let round = 0; round < 12; round++) {
    for (const [kind, hash] of Object.entries(hashes)) {
      const before = process.cpuUsage();
      await bcrypt.compare('wrong', hash, { cost: 9, user: kind === 'none' ? undefined : kind });
      // The time of the processor, and the shortest of many: a machine that is busy with something else changes nothing of it.
      shortest[kind] = Math.min(shortest[kind] ?? Number.POSITIVE_INFINITY, process.cpuUsage(before).user);
    }
  }
  // The costs alone are 1 to 32.
  expect(Math.max(...Object.values(shortest)) / Math.min(...Object.values(shortest))).toBeLessThan(3);
});

describe('while others guess at names', () => {
  const hash = hashSync('right', 4);
  const flood = (bcrypt: Bcrypt, length: number, from = 'here') =>
    Array.from({ length }, () => bcrypt.compare('wrong', hashOfNothing(4), { from }));

  test('a right password of a user goes past them', async () => {
    const bcrypt = open();
    const order: string[] = [];
    const guesses = flood(bcrypt, 50).map(guess => guess.then(() => order.push('guess')));
    const login = bcrypt.compare('right', hash, { from: 'here', user: 'ada' }).then(is => order.push(`login ${is}`));
    await Promise.all([...guesses, login]);
    expect(order.indexOf('login true')).toBeLessThan(3);
  });

  test('a wrong one of a user is told when it would be for nobody', async () => {
    const bcrypt = open();
    const order: string[] = [];
    const tell = (what: string) => (is: boolean) => order.push(`${what} ${is}`);
    const before = flood(bcrypt, 20).map(guess => guess.then(tell('before')));
    const user = bcrypt.compare('wrong', hash, { from: 'here', user: 'ada' }).then(tell('user'));
    const nobody = flood(bcrypt, 1).map(guess => guess.then(tell('nobody')));
    const after = flood(bcrypt, 20).map(guess => guess.then(tell('after')));
    await Promise.all([...before, user, ...nobody, ...after]);
    expect(order.slice(20, 22)).toEqual(['user false', 'nobody false']);
  });

  test('a right one goes through, and a wrong one is refused as for nobody, where there is no room', async () => {
    const bcrypt = open();
    const guesses = Promise.allSettled(flood(bcrypt, 300));
    const times: Record<string, number> = {};
    const start = performance.now();
    const refused = async (kind: string, user?: string) => {
      await expect(
        bcrypt.compare('wrong', user ? hash : hashOfNothing(4), { from: 'here', user }),
      ).rejects.toMatchObject({ code: 'TOOMANYREQUESTS' });
      times[kind] = performance.now() - start;
    };
    const both = Promise.all([refused('user', 'ada'), refused('nobody')]);
    expect(await bcrypt.compare('right', hash, { from: 'here', user: 'bob' })).toBe(true);
    await Promise.all([both, guesses]);
    expect(Math.min(...Object.values(times))).toBeGreaterThan(990);
  });

  test('one address takes no room from others', async () => {
    const bcrypt = open();
    const guesses = Promise.allSettled(flood(bcrypt, 300));
    const others = ['there', 'elsewhere'].flatMap(from => flood(bcrypt, 5, from));
    expect(await Promise.all(others)).not.toContain(true);
    const refused = (await guesses).filter(({ status }) => status === 'rejected');
    expect(refused.length).toBeGreaterThanOrEqual(200);
  });
});

test('refuses more than a hundred that wait', async () => {
  const bcrypt = open();
  const hash = hashSync('x', 4);
  const answers = await Promise.allSettled(Array.from({ length: 200 }, () => bcrypt.compare('x', hash)));
  const refused = answers.filter(answer => answer.status === 'rejected');
  expect(refused.length).toBeGreaterThanOrEqual(90);
  expect(refused[0]?.reason).toMatchObject({ code: 'TOOMANYREQUESTS', retryAfterSeconds: 1 });
  expect(await bcrypt.compare('x', hash)).toBe(true);
});

function open() {
  const bcrypt = createBcrypt();
  onTestFinished(() => bcrypt.close());
  return bcrypt;
}
