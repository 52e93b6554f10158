// The keys of `cache` that say how much is kept.
import { expect, test } from 'vitest';
import { configSchema } from '../../src/config/schema.ts';

const parse = (cache: object) => configSchema({}).safeParse({ cache });

test.each([
  ['a size with its marks', { maxSize: '1KiB', water: { high: 1, low: 0.5 } }, { highBytes: 1024, lowBytes: 512 }],
  ['no size', { maxSize: 'none' }, { highBytes: undefined, lowBytes: 0 }],
  ['an age', { maxAge: '1h' }, { maxAgeMs: 3_600_000 }],
])('%s makes a budget', (_, cache, budget) => {
  expect(parse(cache).data?.cache.budget).toMatchObject(budget);
});

test.each([
  ['a low mark above the high one', { water: { high: 0.5, low: 0.6 } }, 'is more than high'],
  ['a mark beyond the whole', { water: { high: 1.5 } }, 'water'],
  ['an age of seconds', { maxAge: '5s' }, 'maxAge'],
  ['a pattern of nothing', { pin: [''] }, 'pin'],
])('%s is refused', (_, cache, message) => {
  expect(JSON.stringify(parse(cache).error?.issues)).toContain(message);
});
