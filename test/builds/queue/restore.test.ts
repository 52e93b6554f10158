// Whom an end of the process is blamed on, whatever ran and however it ended.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NO_CRASHES } from '../../../src/builds/queue/build-records.ts';
import { updateCrashHistories } from '../../../src/builds/queue/create.ts';

/** Which of five builds run when the process ends, and how it ends. */
const end = fc.record({
  running: fc.uniqueArray(fc.nat(4), { maxLength: 5 }),
  how: fc.constantFrom('killed' as const, 'by itself' as const),
});

test('counts for a build are the ends by itself while it alone ran, and nothing else', () => {
  const property = fc.property(fc.array(end, { maxLength: 30 }), ends => {
    let blames: ReturnType<typeof updateCrashHistories> = Array(5).fill(NO_CRASHES);
    for (const { running, how } of ends) {
      const left = blames.map((blame, at) => ({ ...blame, isRunning: running.includes(at) }));
      blames = updateCrashHistories(left, how === 'by itself');
    }
    const faults = ends.filter(({ how }) => how === 'by itself').map(({ running }) => running);
    for (const [at, blame] of blames.entries()) {
      const alone = faults.filter(running => running.length === 1 && running[0] === at);
      expect(blame).toEqual({
        isRunning: false,
        isSuspect: faults.some(running => running.includes(at)),
        crashes: alone.length,
      });
    }
  });
  fc.assert(property);
});

test('kills alone never blame anybody', () => {
  const kills = fc.array(end, { maxLength: 100 });
  const property = fc.property(kills, ends => {
    let blames: ReturnType<typeof updateCrashHistories> = Array(5).fill(NO_CRASHES);
    for (const { running } of ends) {
      blames = updateCrashHistories(
        blames.map((blame, at) => ({ ...blame, isRunning: running.includes(at) })),
        false,
      );
    }
    expect(blames).toEqual(Array(5).fill(NO_CRASHES));
  });
  fc.assert(property);
});
