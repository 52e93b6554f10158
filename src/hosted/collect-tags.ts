// Tags that retention lets go of.
import type { Run } from './collect-run.ts';
import { entriesOf } from './collect-walk.ts';
import { type TagRecord, tagKey } from './records.ts';

interface FoundTag extends TagRecord {
  readonly tag: string;
}

/** How many went. Holds the tags of one repository in memory, where a rule is about it. */
export async function collectTags(run: Run, repository: string): Promise<number> {
  const { retention, startedAt } = run;
  if (!retention.isAbout(repository)) return 0;
  const tags = await findMutable(run, repository);
  let removed = 0;
  for (const tag of await retention.findExpired(repository, tags, startedAt)) {
    await run.visit();
    if (await removeSame(run, repository, tag)) removed += 1;
  }
  return removed;
}

async function findMutable(run: Run, repository: string): Promise<readonly FoundTag[]> {
  const { records, options } = run.room;
  const prefix = tagKey(repository, '');
  const found: FoundTag[] = [];
  for await (const { key, value } of entriesOf(records.tags, prefix)) {
    await run.visit();
    const tag = key.slice(prefix.length);
    if (!options.isImmutable(repository, tag)) found.push({ tag, ...value });
  }
  return found;
}

/** Removes the tag, unless it was pushed again since it was found. */
async function removeSame({ room, hand }: Run, repository: string, found: FoundTag): Promise<boolean> {
  const { tag, digest, pushedAt } = found;
  return room.exclusively(async () => {
    const current = await room.records.tags.find(tagKey(repository, tag));
    if (current?.digest !== digest || current.pushedAt !== pushedAt) return false;
    await hand.removeTag({ repository, tag, digest });
    return true;
  });
}
