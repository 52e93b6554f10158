// The order in which content was used, whatever the clock does.
import { describe, expect, test } from 'vitest';
import { createUsage, type Usage } from '../../../src/cache/eviction/usage.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import { countTurns } from '../../support/turns.ts';

const [a, b, c] = ['a', 'b', 'c'].map(text => digestOf(Buffer.from(text)));

function note(usage: Usage, digest: Digest | undefined, usedAt: number, size = 10): void {
  if (digest) usage.note({ digest, size, usedAt, recordedAt: usedAt });
}

const orderOf = (usage: Usage) => [...usage.oldest()].map(({ digest }) => digest);

test('content that is used moves behind all that was used before', () => {
  const usage = createUsage();
  for (const digest of [a, b, c, a]) note(usage, digest, 0);
  expect(orderOf(usage)).toEqual([b, c, a]);
});

test('content counts once, with the size that was noted last, and not after it was forgotten', () => {
  const usage = createUsage();
  note(usage, a, 0, 10);
  note(usage, a, 0, 12);
  note(usage, b, 0, 5);
  expect({ bytes: usage.bytes, count: usage.count }).toEqual({ bytes: 17, count: 2 });
  if (a) usage.forget(a);
  if (a) usage.forget(a);
  expect({ bytes: usage.bytes, count: usage.count }).toEqual({ bytes: 5, count: 1 });
});

test('what is found on the disk is older than what was used meanwhile, and in the order of its times', async () => {
  const usage = createUsage();
  note(usage, b, 5);
  const found = [c, b, a].map((digest, i) => ({ digest: digest ?? digestOf(Buffer.of()), size: 1, usedAt: 90 - i }));
  await usage.load(found.map(used => ({ ...used, recordedAt: used.usedAt })));
  expect(orderOf(usage)).toEqual([a, c, b]);
  expect(usage.bytes).toBe(12);
});

test('others have their turn while much is loaded, and what they use meanwhile is the youngest', async () => {
  const usage = createUsage();
  const found = Array.from({ length: 30_000 }, (_, at) => {
    const usedAt = (at * 7919) % 30_000;
    return { digest: digestOf(Buffer.from(`${at}`)), size: 1, usedAt, recordedAt: usedAt };
  });
  setImmediate(() => note(usage, found[1]?.digest, 40_000));
  const { turns } = await countTurns(() => usage.load(found));
  expect(turns).toBeGreaterThan(40);
  const times = [...usage.oldest()].map(({ usedAt }) => usedAt);
  expect(times).toEqual(
    [...found.map(({ usedAt }) => usedAt).filter(time => time !== 7919), 40_000].sort((x, y) => x - y),
  );
  expect({ bytes: usage.bytes, count: usage.count }).toEqual({ bytes: 30_009, count: 30_000 });
});

describe('a clock', () => {
  const HOUR = 3_600_000;

  test.each([
    ['goes back', [10 * HOUR, 2 * HOUR, 3 * HOUR]],
    ['goes far ahead and back again', [HOUR, 900_000 * HOUR, 2 * HOUR]],
    ['stands still', [HOUR, HOUR, HOUR]],
  ])('that %s does not change the order', (_, [first = 0, second = 0, third = 0]) => {
    const usage = createUsage();
    note(usage, a, first);
    note(usage, b, second);
    note(usage, c, third);
    expect(orderOf(usage)).toEqual([a, b, c]);
  });

  test('that goes back leaves no content with a use in the future, which would never grow old', () => {
    const usage = createUsage();
    note(usage, a, 10 * HOUR);
    note(usage, b, 2 * HOUR);
    expect([...usage.oldest()].map(({ usedAt }) => usedAt)).toEqual([2 * HOUR, 2 * HOUR]);
  });
});
