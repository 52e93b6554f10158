// What is being written: it is waited for until it rests, and not for ever.
import { expect, test } from 'vitest';
import { createDebounce } from '../../src/rules/layers/fingerprint.ts';

const settled = { value: 'a', isSettled: true };
const fresh = { value: 'b', isSettled: false };

test('what has settled is taken, and what is being written waits', () => {
  const { mustWait } = createDebounce(() => new Date());
  expect([mustWait([]), mustWait([settled]), mustWait([settled, fresh]), mustWait([settled])]).toEqual([
    false,
    false,
    true,
    false,
  ]);
});

test.each([1, -1])('what is written without an end is taken in the end, also when the clock is set back (%i)', way => {
  let nowMs = 1_000_000;
  const { mustWait } = createDebounce(() => new Date(nowMs));
  const looks = [0, 5, 10, 29, 30, 35].map(seconds => {
    nowMs = 1_000_000 + way * seconds * 1000;
    return mustWait([fresh]);
  });
  expect(looks).toEqual([true, true, true, true, false, false]);
  mustWait([settled]);
  expect(mustWait([fresh])).toBe(true);
});
