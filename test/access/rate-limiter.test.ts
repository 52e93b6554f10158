// Rates of callers: by whom they are counted, and what the error says when there were too many.
import { expect, test } from 'vitest';
import type { Caller } from '../../src/access/access.ts';
import { type CallerRates, createCallerRateLimiter } from '../../src/access/rate-limiter.ts';
import { RegistryError } from '../../src/oci/errors.ts';

const ada: Caller = { kind: 'user', name: 'ada' };
const bob: Caller = { kind: 'user', name: 'bob' };
const anonymous: Caller = { kind: 'anonymous' };

/** Counts so many platforms for a caller; gives the error of what is too much. */
function createCounter(rates: CallerRates) {
  const limiter = createCallerRateLimiter(rates, { what: 'builds', units: 'platforms', key: 'builds.rate' });
  return async (caller: Caller, platforms: number, address?: string): Promise<RegistryError | undefined> => {
    try {
      await (platforms < 0
        ? limiter.refund({ caller, address }, -platforms)
        : limiter.consume({ caller, address }, platforms));
      return undefined;
    } catch (error) {
      if (error instanceof RegistryError) return error;
      throw error;
    }
  };
}

const hourly = (count: number) => ({ count, perMs: 3_600_000 });

test('are of each user by itself, and anonymous callers have their own', async () => {
  const count = createCounter({ anonymous: hourly(1), known: hourly(3) });
  expect(await count(ada, 3)).toBeUndefined();
  expect((await count(ada, 1))?.code).toBe('TOOMANYREQUESTS');
  expect(await count(bob, 3)).toBeUndefined();
  expect(await count(anonymous, 1)).toBeUndefined();
  expect((await count(anonymous, 1))?.status).toBe(429);
});

test('say how many there were, how many there may be, and when to come again', async () => {
  const count = createCounter({ anonymous: undefined, known: { count: 25, perMs: 86_400_000 } });
  await count(ada, 24);
  const error = await count(ada, 3);
  expect(error?.message).toBe(
    'too many builds: 3 more would be 27 of 25 platforms in 86400 seconds (builds.rate.known in veneer.yaml)',
  );
  expect(error?.retryAfterSeconds).toBeGreaterThan(86_000);
  expect(error?.retryAfterSeconds).toBeLessThanOrEqual(86_400);
});

test('are kept of some thousands of callers: who was away longest is counted again', async () => {
  const count = createCounter({ anonymous: undefined, known: hourly(1) });
  const user = (at: number): Caller => ({ kind: 'user', name: `user ${at}` });
  for (let at = 0; at <= 10_000; at += 1) await count(user(at), 1);
  expect(await count(user(0), 1)).toBeUndefined();
  expect((await count(user(10_000), 1))?.status).toBe(429);
});

test('count nothing of what they refuse', async () => {
  const count = createCounter({ anonymous: undefined, known: hourly(2) });
  for (let at = 0; at < 5; at += 1) expect((await count(ada, 3))?.status).toBe(429);
  expect(await count(ada, 2)).toBeUndefined();
});

test('let everybody through where there are none, and a caller on this machine always', async () => {
  const count = createCounter({ anonymous: undefined, known: hourly(1) });
  for (let at = 0; at < 50; at += 1) expect(await count(anonymous, 3)).toBeUndefined();
  for (let at = 0; at < 50; at += 1) expect(await count({ kind: 'local' }, 3)).toBeUndefined();
});

test('are of each address without credentials, however IPv6 writes it, and of each /64', async () => {
  const count = createCounter({ anonymous: hourly(1), known: undefined });
  const refused = async (address: string) => (await count(anonymous, 1, address)) !== undefined;
  expect(await refused('192.0.2.1')).toBe(false);
  expect(await refused('::ffff:192.0.2.1')).toBe(true);
  expect(await refused('192.0.2.2')).toBe(false);
  expect(await refused('2001:db8:0:1::1')).toBe(false);
  expect(await refused('2001:db8:0:1:ffff::2')).toBe(true);
  expect(await refused('2001:db8:0:2::1')).toBe(false);
});

test('give back what was for nothing', async () => {
  const count = createCounter({ anonymous: undefined, known: hourly(2) });
  for (let at = 0; at < 5; at += 1) {
    expect(await count(ada, 2)).toBeUndefined();
    expect(await count(ada, -2)).toBeUndefined();
  }
});
