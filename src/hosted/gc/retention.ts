// Retention: which tags of a repository expire. Pure, so that a dry run and a real run agree.
import { setImmediate } from 'node:timers/promises';
import { sortInSteps } from '../../content/sort-in-steps.ts';
import { createNameTest, type TagPattern } from '../../oci/name-pattern.ts';

/** A matching tag expires unless `keepNewest` or `maxAgeMs` retains it. A rule with neither retains everything that it matches. */
export interface RetentionRule extends TagPattern {
  /** Retains this many of the tags in a repository that the rule applies to, most recently pushed first. */
  readonly keepNewest?: number | undefined;
  /** Retains those that were pushed less than this ago. */
  readonly maxAgeMs?: number | undefined;
}

interface PushedTag {
  readonly tag: string;
  /** ISO 8601 in UTC. */
  readonly pushedAt: string;
}

export interface Retention {
  /** Whether any rule matches the repository. */
  isAbout(repository: string): boolean;
  /** Those of `tags`, all mutable tags of a repository, that no rule retains. Yields to other work. */
  findExpired<T extends PushedTag>(repository: string, tags: readonly T[], now: Date): Promise<readonly T[]>;
}

/** The first rule whose patterns match a tag decides on it; a tag that no rule matches is retained. */
export function createRetention(rules: readonly RetentionRule[]): Retention {
  const compiled = rules.map(rule => ({
    rule,
    isAbout: createNameTest(rule.repositories),
    matches: createNameTest(rule.tags),
  }));
  return {
    isAbout: repository => compiled.some(({ isAbout }) => isAbout(repository)),
    async findExpired<T extends PushedTag>(repository: string, tags: readonly T[], now: Date) {
      const candidates = compiled.filter(({ isAbout }) => isAbout(repository));
      const decided = new Map<RetentionRule, T[]>();
      for (const [at, tag] of tags.entries()) {
        if (at % TAGS_PER_TURN === TAGS_PER_TURN - 1) await setImmediate();
        const rule = candidates.find(({ matches }) => matches(tag.tag))?.rule;
        if (!rule) continue;
        const group = decided.get(rule) ?? [];
        group.push(tag);
        decided.set(rule, group);
      }
      const expired = await Promise.all([...decided].map(([rule, group]) => expiredBy(rule, group, now)));
      return expired.flat();
    },
  };
}

const TAGS_PER_TURN = 1000;

async function expiredBy<T extends PushedTag>({ keepNewest, maxAgeMs }: RetentionRule, tags: readonly T[], now: Date) {
  if (keepNewest === undefined && maxAgeMs === undefined) return [];
  const youngest = new Date(now.getTime() - (maxAgeMs ?? 0)).toISOString();
  const older = (await sortInSteps(tags, newestFirst)).slice(keepNewest ?? 0);
  return maxAgeMs === undefined ? older : older.filter(({ pushedAt }) => pushedAt <= youngest);
}

/** Tags of one push have the same time: the name breaks the tie, so that the order is stable. */
function newestFirst(a: PushedTag, b: PushedTag): number {
  return compare(b.pushedAt, a.pushedAt) || compare(b.tag, a.tag);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
