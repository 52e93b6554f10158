// What all parts of the room share: content, records, and the one queue that keeps them in step.
import pLimit from 'p-limit';
import type { ContentStore } from '../content/store.ts';
import type { Memory } from '../memory.ts';
import type { Digest } from '../oci/digest.ts';
import type { RecordStore } from '../state/store.ts';
import { createLooks, type Looks } from './collect-looks.ts';
import { refuseFullDisk } from './full-disk.ts';
import { DEFAULT_OPTIONS, type HostedOptions } from './options.ts';
import { createHostedRecords, type HostedRecords, holdersKey } from './records.ts';

export interface Room {
  readonly content: ContentStore;
  readonly records: HostedRecords;
  readonly memory: Memory;
  readonly now: () => Date;
  readonly options: HostedOptions;
  /** What clients have asked for of late, by `linkKey`. */
  readonly looks: Looks;
  /**
   * Runs one at a time what changes records or deletes content, together with the looks that it rests on. Nothing that waits for a
   * client or moves many bytes belongs in it. Not to be nested.
   */
  exclusively<T>(work: () => Promise<T>): Promise<T>;
  /**
   * Runs `work`, which brings content of `digest` and then links it: in between, nobody takes it for content that nothing needs.
   * Where `work` throws, unlinked content is gone, but not what was so before. Not inside `exclusively`.
   */
  hold<T>(digest: Digest, work: () => Promise<T>): Promise<T>;
  /** Whether a repository links the content or somebody holds it. Inside `exclusively`. */
  isNeeded(digest: Digest): Promise<boolean>;
  /** Deletes content that is not needed, as far as the records are to be believed. Inside `exclusively`. */
  deleteUnlinked(digest: Digest): Promise<void>;
  /** Why nothing goes for want of a record; undefined: it may. */
  reasonToKeep(): string | undefined;
}

interface RoomDeps {
  readonly content: ContentStore;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly now: () => Date;
  readonly options?: Partial<HostedOptions> | undefined;
  /** For the operator: why these records may not be all that there were. Default: they are. */
  readonly reasonToKeep?: (() => string | undefined) | undefined;
}

export function createRoom({
  content,
  records: store,
  memory,
  now,
  options,
  reasonToKeep = () => undefined,
}: RoomDeps): Room {
  const records = createHostedRecords(store);
  const queue = pLimit(1);
  const exclusively: Room['exclusively'] = work => refuseFullDisk(() => queue(work));
  const holds = new Map<Digest, number>();

  async function isNeeded(digest: Digest): Promise<boolean> {
    return holds.has(digest) || (await records.holders.list({ prefix: holdersKey(digest), limit: 1 })).length > 0;
  }

  async function deleteUnlinked(digest: Digest): Promise<void> {
    if (reasonToKeep() === undefined && !(await isNeeded(digest))) await content.delete(digest);
  }

  function drop(digest: Digest): void {
    const others = (holds.get(digest) ?? 1) - 1;
    if (others > 0) holds.set(digest, others);
    else holds.delete(digest);
  }

  async function hold<T>(digest: Digest, work: () => Promise<T>): Promise<T> {
    // In the queue: a deletion of this very content may be under way, and would take what comes.
    const isStray = await exclusively(async () => {
      const isFound = !(await isNeeded(digest)) && (await content.find(digest)) !== undefined;
      holds.set(digest, (holds.get(digest) ?? 0) + 1);
      return isFound;
    });
    try {
      const result = await refuseFullDisk(work);
      drop(digest);
      return result;
    } catch (error) {
      drop(digest);
      // What lay there without a record is not its own: the record may be lost. If this fails too, a collection finds the content.
      if (!isStray) await exclusively(() => deleteUnlinked(digest)).catch(() => {});
      throw error;
    }
  }

  return {
    content,
    records,
    memory,
    now,
    options: { ...DEFAULT_OPTIONS, ...options },
    looks: createLooks(now),
    exclusively,
    hold,
    isNeeded,
    deleteUnlinked,
    reasonToKeep,
  };
}
