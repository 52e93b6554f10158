// The budget against a model of it: ten fit, and five are left when an eleventh comes.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type BudgetPlace, contentOf, openPlace } from './fixture.ts';

const BUDGET = { highBytes: 1000, lowBytes: 500 };

const digestsOf = (...numbers: readonly number[]) => numbers.map(number => contentOf(number).digest).sort();

interface Step {
  readonly kind: 'keep' | 'use' | 'delete';
  readonly number: number;
}

test('the same goes as in a model, whatever is kept, used and deleted', async () => {
  const step = fc.record({
    kind: fc.constantFrom('keep' as const, 'use' as const, 'delete' as const),
    number: fc.integer({ min: 0, max: 15 }),
  });
  const pins = fc.uniqueArray(fc.integer({ min: 0, max: 15 }), { maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), pins, async (steps, pinned) => {
      const pinnedDigests = new Set(digestsOf(...pinned));
      const model = createModel(pinned);
      const cache = await openPlace({ budget: BUDGET, isPinned: digest => pinnedDigests.has(digest) });
      try {
        for (const each of steps) {
          await perform(cache, each);
          model.perform(each);
          await cache.settle();
          expect(await cache.inventory()).toEqual(digestsOf(...model.kept()));
          expect(cache.usage.bytes).toBe(model.kept().length * 100);
          expect(cache.usage.bytes).toBeLessThanOrEqual(BUDGET.highBytes);
        }
      } finally {
        await cache.close();
      }
    }),
    { numRuns: 25 },
  );
});

async function perform({ store }: BudgetPlace, { kind, number }: Step): Promise<void> {
  const { bytes, digest } = contentOf(number);
  if (kind === 'keep') await store.put(bytes);
  if (kind === 'use') await store.read(digest, 2 ** 30);
  if (kind === 'delete') await store.delete(digest);
}

function createModel(pinned: readonly number[]) {
  let order: readonly number[] = [];
  return {
    kept: () => order,
    perform({ kind, number }: Step) {
      const rest = order.filter(each => each !== number);
      if (kind === 'delete') order = rest;
      else if (kind === 'keep' || order.includes(number)) order = [...rest, number];
      if (order.length <= 10) return;
      const victims = order.filter(each => !pinned.includes(each)).slice(0, order.length - 5);
      order = order.filter(each => !victims.includes(each));
    },
  };
}
