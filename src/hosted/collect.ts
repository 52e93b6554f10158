// Collection: removes from repositories what nothing refers to and what their owner does not want to keep, while pushes and pulls go on.
// Each removal is one small step of the room's queue, together with the look that it rests on.
import pLimit from 'p-limit';
import type { Inventory } from '../content/inventory.ts';
import { collectBlobs } from './collect-blobs.ts';
import { createRehearsal, createRemover } from './collect-hand.ts';
import { collectManifests } from './collect-manifests.ts';
import { CollectionRefused, collectOrphans } from './collect-orphans.ts';
import {
  addTally,
  type CollectReport,
  isNothing,
  NOTHING,
  type RepositoryReport,
  type Tally,
} from './collect-report.ts';
import { countVisits, type Run, type VisitOptions } from './collect-run.ts';
import { collectTags } from './collect-tags.ts';
import { repositoriesOf } from './collect-walk.ts';
import { keysOf, tagKey } from './records.ts';
import { createRetention, type RetentionRule } from './retention.ts';
import type { Room } from './room.ts';

export interface CollectPolicy {
  /** What was pushed, mounted or asked for less than this ago stays: it may be a part of a push or a pull that is under way. */
  readonly graceMs: number;
  /** How long a manifest stays without a tag or anything else that keeps it; absent: for ever, as somebody may have pinned its digest. */
  readonly untaggedMs?: number | undefined;
  readonly retention: readonly RetentionRule[];
}

const DEFAULT_POLICY: CollectPolicy = { graceMs: 24 * 3600 * 1000, retention: [] };

interface CollectorOptions extends Partial<CollectPolicy> {
  /** Of the room's store. */
  readonly inventory: Inventory;
  /** The clock's: undefined where nothing may go by its age now. Default: the room's time. */
  readonly deleteBy?: (() => Date | undefined) | undefined;
}

export interface Collector {
  /**
   * One run at a time: others wait. Rejects with the reason of `signal` where that stops it; what is removed by then stays removed. Rejects
   * with CollectionRefused, and removes nothing, where records and bytes do not belong together, most of what is there would go, or the
   * clock has jumped ahead.
   */
  collect(options?: CollectOptions): Promise<CollectReport>;
}

export interface CollectOptions extends VisitOptions {
  /** Changes nothing, and reports what a run would do. */
  readonly dryRun?: boolean | undefined;
  /** Removes what no repository links though it is most of what there is, and believes the clock whatever it says. */
  readonly force?: boolean | undefined;
}

export function createCollector(
  room: Room,
  { inventory, deleteBy = room.now, ...options }: CollectorOptions,
): Collector {
  const policy = { ...DEFAULT_POLICY, ...options };
  const retention = createRetention(policy.retention);
  const queue = pLimit(1);

  function start(startedAt: Date, { dryRun = false, ...visits }: Omit<CollectOptions, 'force'>): Run {
    const before = (ms: number) => new Date(startedAt.getTime() - ms).toISOString();
    const { graceMs, untaggedMs } = policy;
    return {
      room,
      hand: dryRun ? createRehearsal(room, startedAt) : createRemover(room, startedAt),
      retention,
      startedAt,
      graceBefore: before(graceMs),
      untaggedBefore: untaggedMs === undefined ? undefined : before(Math.max(untaggedMs, graceMs)),
      ...countVisits(visits),
    };
  }

  async function collect({ force = false, ...options }: CollectOptions): Promise<CollectReport> {
    const reason = room.reasonToKeep();
    if (reason !== undefined) throw new CollectionRefused(`nothing was collected: ${reason}`);
    const startedAt = force ? room.now() : deleteBy();
    if (!startedAt) throw new CollectionRefused(`nothing was collected: ${JUMPED}`);
    const run = start(startedAt, options);
    const orphans = await collectOrphans(run, { inventory, force });
    const repositories: RepositoryReport[] = [];
    let [removed, kept] = [NOTHING, NOTHING];
    for await (const repository of repositoriesOf(room)) {
      const report = await collectRepository(run, repository);
      removed = addTally(removed, report.removed);
      kept = addTally(kept, report.kept);
      if (!isNothing(report.removed)) repositories.push(report);
      run.finishRepository();
    }
    return {
      dryRun: options.dryRun ?? false,
      startedAt: run.startedAt.toISOString(),
      finishedAt: room.now().toISOString(),
      repositories,
      removed,
      kept,
      orphans,
      freedBytes: run.hand.freedBytes,
    };
  }

  return { collect: (options = {}) => queue(() => collect(options)) };
}

const JUMPED =
  'the clock has jumped ahead, and what is young may look old enough to go. The log says by how much; --force collects all the same';

/** What goes makes room for more to go: tags keep manifests, and manifests keep each other and blobs. */
async function collectRepository(run: Run, repository: string): Promise<RepositoryReport> {
  const tags = await collectTags(run, repository);
  const manifests = await collectManifests(run, repository);
  const blobs = await collectBlobs(run, repository);
  const removed = addTally({ ...manifests, tags }, blobs.removed);
  const kept = addTally(await countKept(run, repository), blobs.kept);
  return { repository, removed, kept };
}

/** The tags and manifests that are left. */
async function countKept(run: Run, repository: string): Promise<Tally> {
  const { hand, room } = run;
  const { records } = room;
  let kept = NOTHING;
  for await (const key of keysOf(records.tags, tagKey(repository, ''))) {
    await run.visit();
    if (!hand.isGone(key)) kept = addTally(kept, { ...NOTHING, tags: 1 });
  }
  for await (const key of keysOf(records.manifests, `${repository}@`)) {
    await run.visit();
    const manifest = await hand.findManifest(key);
    if (manifest) kept = addTally(kept, { ...NOTHING, manifests: 1, bytes: manifest.size });
  }
  return kept;
}
