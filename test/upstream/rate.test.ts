// A rate, against its definition: whenever requests come, no stretch of the time has more turns than are allowed, and none waits in vain.
import { array, assert, asyncProperty, integer } from 'fast-check';
import { expect, test } from 'vitest';
import { createTurns, OutOfTurn } from '../../src/upstream/rate.ts';

const gaps = array(integer({ min: 0, max: 20_000 }), { maxLength: 60 });

test('no stretch of the time has more turns than the rate allows, and turns are in order', async () => {
  await assert(
    asyncProperty(
      gaps,
      integer({ min: 1, max: 5 }),
      integer({ min: 1000, max: 60_000 }),
      async (waits, count, perMs) => {
        let now = 0;
        const turns: number[] = [];
        let waited = 0;
        const clock = {
          now: () => new Date(now),
          async wait(ms: number) {
            waited = ms;
          },
        };
        const takeTurn = createTurns({ name: 'lab', rate: { count, perMs }, clock });
        for (const gap of waits) {
          now += gap;
          waited = 0;
          try {
            await takeTurn();
            turns.push(now + waited);
          } catch (error) {
            expect(error).toBeInstanceOf(OutOfTurn);
            // Refused only where the last turns that count fill the time until then.
            expect((turns.at(-count) ?? -perMs) + perMs).toBeGreaterThan(now + 30_000);
          }
        }
        expect(turns).toEqual(turns.toSorted((a, b) => a - b));
        for (const [at, turn] of turns.entries()) {
          const before = turns[at - count];
          if (before !== undefined) expect(turn - before).toBeGreaterThanOrEqual(perMs);
        }
      },
    ),
  );
});
