// The clock that deletions ask: any jumps of the machine's own, with restarts in between, against the time that has really passed.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, createClock } from '../../src/state/clock.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

let directory: string;
let told: string[];
/** What has really passed, and by how much the machine's clock is off. */
let trueMs: number;
let offMs: number;
let bootedMs: number;
let clock: Clock;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'veneer-clock-'));
  told = [];
  trueMs = Date.UTC(2030, 0, 1);
  offMs = 0;
  await start();
});

afterEach(async () => {
  await clock.close();
  rmSync(directory, { recursive: true });
});

async function start(): Promise<void> {
  bootedMs = trueMs;
  clock = await createClock({
    directory,
    now: () => new Date(trueMs + offMs),
    uptimeMs: () => trueMs - bootedMs,
    onJump: doubt => void told.push(doubt),
    onTrust: () => void told.push('trust'),
  });
}

async function restart(downMs: number, { isKilled = false } = {}): Promise<void> {
  const old = clock;
  if (!isKilled) await old.close();
  trueMs += downMs;
  await start();
  // Its timer, not its file.
  if (isKilled) clearLater.push(old);
}

const clearLater: Clock[] = [];
afterEach(async () => {
  for (const old of clearLater.splice(0)) await old.close();
});

const deleteBy = () => clock.deleteBy()?.getTime();

test('a clock that goes as time does is believed, and says nothing', async () => {
  for (let at = 0; at < 100; at += 1) {
    trueMs += 7 * MINUTE;
    offMs += MINUTE;
    expect(deleteBy()).toBe(trueMs + offMs);
    expect(clock.now().getTime()).toBe(trueMs + offMs);
  }
  await restart(HOUR / 2);
  expect(deleteBy()).toBe(trueMs + offMs);
  expect(told).toEqual([]);
  expect(clock.findJump()).toBeUndefined();
});

describe.each([DAY, 3 * DAY, 30 * DAY, 40 * 365 * DAY])('a jump of %i ms ahead', jumpMs => {
  test('lets nothing be deleted, until it is undone', () => {
    offMs = jumpMs;
    trueMs += 59 * MINUTE;
    expect(deleteBy()).toBeUndefined();
    expect(clock.now().getTime()).toBe(trueMs + offMs);
    expect(told).toEqual([expect.stringMatching(/ahead of the elapsed time: nothing is deleted/)]);
    expect(clock.findJump()).toBe(told[0]);
    offMs = 0;
    expect(deleteBy()).toBe(trueMs);
    expect(told.slice(1)).toEqual(['trust']);
  });

  test('is believed when it has stood for an hour of uptime', () => {
    offMs = jumpMs;
    expect(deleteBy()).toBeUndefined();
    trueMs += HOUR - 1;
    expect(deleteBy()).toBeUndefined();
    trueMs += 1;
    expect(deleteBy()).toBe(trueMs + offMs);
    trueMs += 1;
    expect(deleteBy()).toBe(trueMs + offMs);
  });

  test('is one after a stop and after a kill, too, and the hours of all runs count', async () => {
    await restart(MINUTE, { isKilled: true });
    offMs = jumpMs;
    await restart(MINUTE);
    expect(deleteBy()).toBeUndefined();
    trueMs += 40 * MINUTE;
    await restart(MINUTE);
    expect(deleteBy()).toBeUndefined();
    trueMs += 19 * MINUTE;
    expect(deleteBy()).toBeUndefined();
    trueMs += MINUTE;
    expect(deleteBy()).toBe(trueMs + offMs);
    await restart(MINUTE);
    expect(deleteBy()).toBe(trueMs + offMs);
  });
});

test('a jump while one is in doubt begins the hour again', () => {
  offMs = DAY;
  expect(deleteBy()).toBeUndefined();
  trueMs += 50 * MINUTE;
  offMs = 30 * DAY;
  expect(deleteBy()).toBeUndefined();
  trueMs += 59 * MINUTE;
  expect(deleteBy()).toBeUndefined();
  offMs = DAY;
  trueMs += 59 * MINUTE;
  expect(deleteBy()).toBeUndefined();
});

test('while the clock is behind, what is new is dated by the time that has passed', async () => {
  offMs = -60 * 365 * DAY;
  await restart(MINUTE);
  trueMs += 50 * MINUTE;
  // All but the minute in which nothing ran.
  expect(clock.now().getTime()).toBe(trueMs - MINUTE);
  expect(deleteBy()).toBe(trueMs + offMs);
  expect(told.at(-1)).toMatch(/behind the elapsed time: timestamps follow the elapsed time/);
  offMs = 0;
  expect(clock.now().getTime()).toBe(trueMs);
  expect(deleteBy()).toBe(trueMs);
});

test('that it was ahead for long, and is behind since it was set right, is believed after an hour', () => {
  offMs = 30 * DAY;
  clock.now();
  trueMs += 2 * HOUR;
  expect(deleteBy()).toBe(trueMs + offMs);
  offMs = 0;
  expect(clock.now().getTime()).toBe(trueMs + 30 * DAY);
  expect(deleteBy()).toBe(trueMs);
  trueMs += HOUR;
  expect(clock.now().getTime()).toBe(trueMs);
});

test('a month in which the machine was off is believed after an hour, as no clock tells it from a jump', async () => {
  await restart(30 * DAY);
  expect(deleteBy()).toBeUndefined();
  trueMs += HOUR;
  expect(deleteBy()).toBe(trueMs);
});

test.each(['', '{', '{"passed":"soon"}'])('a file of %j is none: the clock is believed', async spoilt => {
  await clock.close();
  writeFileSync(join(directory, 'clock.json'), spoilt);
  offMs = 30 * DAY;
  await start();
  expect(deleteBy()).toBe(trueMs + offMs);
});

test('jumps that do not stand for an hour never let anything go before its time, nor date anything before it', async () => {
  const jump = fc.oneof(
    fc.integer({ min: 90, max: 300 }).map(minutes => minutes * MINUTE),
    fc.integer({ min: 1, max: 20_000 }).map(days => days * DAY),
  );
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('jump' as const),
      ms: fc.oneof(
        jump,
        jump.map(ms => -ms),
      ),
    }),
    fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 20 * MINUTE }) }),
    fc.record({
      kind: fc.constant('restart' as const),
      ms: fc.integer({ min: 0, max: MINUTE }),
      isKilled: fc.boolean(),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), async steps => {
      await clock.close();
      rmSync(join(directory, 'clock.json'), { force: true });
      offMs = 0;
      await start();
      let jumpedAt = trueMs;
      let downMs = 0;
      for (const each of steps) {
        if (each.kind === 'jump') [offMs, jumpedAt] = [each.ms, trueMs];
        else if (each.kind === 'pass') trueMs += each.ms;
        else {
          // What passes while nothing runs is not seen, and here a kill forgets all of its run, as no timer has written.
          downMs += each.ms + (each.isKilled ? trueMs - bootedMs : 0);
          await restart(each.ms, each);
        }
        if (trueMs - jumpedAt > 50 * MINUTE) offMs = 0;
        expect(deleteBy() ?? 0).toBeLessThanOrEqual(trueMs);
        expect(clock.now().getTime()).toBeGreaterThanOrEqual(trueMs - downMs);
      }
      offMs = 0;
      trueMs += HOUR;
      clock.now();
      trueMs += HOUR;
      expect(deleteBy()).toBe(trueMs);
      expect(clock.now().getTime()).toBe(trueMs);
    }),
    { numRuns: 200 },
  );
});
