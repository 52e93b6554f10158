// What is in the cache, listed while all else continues.
import { expect, test } from 'vitest';
import { type CacheLink, listContents, listRepositories } from '../../../src/cache/admin/cache-admin.ts';
import { createUsage } from '../../../src/cache/eviction/usage.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { countTurns } from '../../support/turns.ts';

const COUNT = 10_000;

test.each([
  ['all repositories', 1, (parts: Parts) => listRepositories(parts)],
  ['a repository', COUNT, (parts: Parts) => listContents(parts, 'lab/app')],
] as const)('others have their turn while much is listed of %s', async (_, lines, list) => {
  const { result, turns } = await countTurns(() => Array.fromAsync(list(createParts())));
  expect(result.length).toBe(lines);
  expect(turns).toBeGreaterThan(COUNT / 500);
});

type Parts = ReturnType<typeof createParts>;

/** Links that come without a turn in between, as those of a store in this process do. */
function createParts() {
  const usage = createUsage();
  const links: CacheLink[] = [];
  for (let at = 0; at < COUNT; at += 1) {
    const digest = digestOf(Buffer.from(`${at}`));
    usage.note({ digest, size: 1, usedAt: at, recordedAt: at });
    links.push({ repository: 'lab/app', digest, link: {} });
  }
  return {
    usage,
    links: {
      async *list() {
        yield* links;
      },
      holdersOf: async () => ['lab/app'],
    },
  };
}
