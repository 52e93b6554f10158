// Retention: which tags go, by rules.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRetention, type RetentionRule } from '../../../src/hosted/gc/retention.ts';
import { countTurns } from '../../support/turns.ts';

const NOW = new Date('2030-01-31T00:00:00.000Z');
const DAY = 24 * 3600 * 1000;
const all = { repositories: ['**'], tags: ['*'] };

function tagsOf(ages: Readonly<Record<string, number>>) {
  return Object.entries(ages).map(([tag, days]) => ({
    tag,
    pushedAt: new Date(NOW.getTime() - days * DAY).toISOString(),
  }));
}

async function expired(
  rules: readonly RetentionRule[],
  ages: Readonly<Record<string, number>>,
  repository = 'local/app',
) {
  const found = await createRetention(rules).findExpired(repository, tagsOf(ages), NOW);
  return found.map(({ tag }) => tag).sort();
}

describe('a rule', () => {
  const ages = { a: 1, b: 2, c: 3, d: 10, e: 20 };
  test.each<[string, Partial<RetentionRule>, string[]]>([
    ['keeps the newest', { keepNewest: 2 }, ['c', 'd', 'e']],
    ['keeps all where there are not so many', { keepNewest: 5 }, []],
    ['keeps what is young', { maxAgeMs: 5 * DAY }, ['d', 'e']],
    ['lets go of what is just as old', { maxAgeMs: 3 * DAY }, ['c', 'd', 'e']],
    ['of an age alone keeps not even the newest', { maxAgeMs: DAY / 2 }, ['a', 'b', 'c', 'd', 'e']],
    ['of both keeps what either keeps: the newest', { keepNewest: 4, maxAgeMs: 2.5 * DAY }, ['e']],
    ['of both keeps what either keeps: the young', { keepNewest: 1, maxAgeMs: 15 * DAY }, ['e']],
    ['of neither keeps all', {}, []],
    ['is about the tags that it matches', { tags: ['[d-e]'], keepNewest: 1 }, ['e']],
    ['has several patterns', { tags: ['a', 'e'], keepNewest: 1 }, ['e']],
    ['is about the repositories that it matches', { repositories: ['local/other', 'local/a/**'], keepNewest: 1 }, []],
  ])('%s', async (_, rule, gone) => {
    expect(await expired([{ ...all, ...rule }], ages)).toEqual(gone);
  });
});

test('counts the newest by when they were pushed, and those of one push by name', async () => {
  expect(await expired([{ ...all, keepNewest: 2 }], { '1.9': 3, '2.0': 1, '1.10': 2 })).toEqual(['1.9']);
  expect(await expired([{ ...all, keepNewest: 1 }], { b: 1, c: 1, a: 1 })).toEqual(['a', 'b']);
});

test('the first rule that matches a tag decides, and counts only what it decides', async () => {
  const rules = [
    { ...all, tags: ['v*'] },
    { ...all, tags: ['pr-*'], maxAgeMs: 7 * DAY },
    { ...all, keepNewest: 1 },
  ];
  const ages = { v1: 1000, 'pr-1': 8, 'pr-2': 1, main: 5, old: 6, latest: 0 };
  expect(await expired(rules, ages)).toEqual(['main', 'old', 'pr-1']);
});

test('what no rule matches stays', async () => {
  expect(await expired([{ ...all, tags: ['pr-*'], maxAgeMs: 0 }], { main: 9, 'pr-1': 9 })).toEqual(['pr-1']);
  expect(await expired([], { main: 9 })).toEqual([]);
});

test.each([
  ['local/app', true],
  ['local/app/web', false],
  ['quay.io/app', false],
])('knows whether it is about %s', (repository, isAbout) => {
  const retention = createRetention([
    { repositories: ['local/*'], tags: ['*'], keepNewest: 1 },
    { repositories: ['lab/**'], tags: ['*'], keepNewest: 1 },
  ]);
  expect(retention.isAbout(repository)).toBe(isAbout);
});

describe('whatever the tags and the order in which they come', () => {
  const tags = fc.uniqueArray(fc.record({ tag: fc.stringMatching(/^[a-c]{1,3}$/), days: fc.nat(30) }), {
    selector: ({ tag }) => tag,
  });
  const pushed = tags.map(found => tagsOf(Object.fromEntries(found.map(({ tag, days }) => [tag, days]))));

  test('as many stay as are to be kept, and none that goes is newer than one that stays', async () => {
    await fc.assert(
      fc.asyncProperty(pushed, fc.integer({ min: 1, max: 10 }), async (found, keepNewest) => {
        const gone = new Set(await createRetention([{ ...all, keepNewest }]).findExpired('local/app', found, NOW));
        const kept = found.filter(tag => !gone.has(tag));
        expect(kept.length).toBe(Math.min(keepNewest, found.length));
        for (const old of gone) for (const young of kept) expect(old.pushedAt <= young.pushedAt).toBe(true);
      }),
    );
  });

  test('the same go, and none goes the second time', async () => {
    await fc.assert(
      fc.asyncProperty(pushed, fc.nat(5), fc.nat(30), async (found, keepNewest, days) => {
        const retention = createRetention([{ ...all, keepNewest, maxAgeMs: days * DAY }]);
        const gone = await retention.findExpired('local/app', found, NOW);
        const backwards = await retention.findExpired('local/app', found.toReversed(), NOW);
        expect(new Set(backwards)).toEqual(new Set(gone));
        const rest = found.filter(tag => !gone.includes(tag));
        expect(await retention.findExpired('local/app', rest, NOW)).toEqual([]);
      }),
    );
  });
});

test('others have their turn while the tags of a large repository are looked at', async () => {
  const found = tagsOf(Object.fromEntries(Array.from({ length: 30_000 }, (_, at) => [`t${at}`, (at * 7919) % 1000])));
  const retention = createRetention([{ ...all, keepNewest: 10 }]);
  const { result, turns } = await countTurns(() => retention.findExpired('local/app', found, NOW));
  expect(result.length).toBe(found.length - 10);
  expect(turns).toBeGreaterThan(40);
});
