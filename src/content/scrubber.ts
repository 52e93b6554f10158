// The scrubber continuously rereads all content, so that damage is found while it can still be repaired. It works through the digests part
// by part, in all stores at once: each part gets the same time, so that the total amount need not be known.
import { setTimeout } from 'node:timers/promises';
import type { Digest } from '../oci/digest.ts';
import type { ContentKind, StoredContent } from './inventory.ts';
import { createRateLimiter } from './verification.ts';

interface CursorStore {
  find(): Promise<ScrubCursor | undefined>;
  save(cursor: ScrubCursor): Promise<void>;
}

export interface ScrubTotals {
  /** Files and bytes that were read. */
  readonly count: number;
  readonly bytes: number;
  readonly damaged: number;
  /** In milliseconds, without the time in which the service was stopped. */
  readonly ranMs: number;
}

/** The position within a round: the part, and the last digest read of it. */
export interface ScrubCursor extends ScrubTotals {
  readonly part: number;
  readonly after?: { readonly of: ContentKind; readonly digest: Digest } | undefined;
}

export interface Scrubber {
  /** Stops at once, even in the middle of a file, and saves the cursor. */
  close(): Promise<void>;
}

/** By the first two characters of the hex. */
const PARTS = 256;
/** At the start, other reads go first. */
const START_MS = 60_000;
const SAVE_EVERY_MS = 60_000;
const START: ScrubCursor = { part: 0, count: 0, bytes: 0, damaged: 0, ranMs: 0 };

export function startScrubber(options: {
  readonly stores: readonly StoredContent[];
  /** The time for one round, as far as the rate allows. */
  readonly everyMs: number;
  /** The maximum read rate. */
  readonly bytesPerSecond: number;
  /** The saved progress, of this process or an earlier one. */
  readonly cursors: CursorStore;
  /** Called after each round. */
  readonly onRound: (round: ScrubTotals) => void;
  /** Called for content that could not be read; it is retried in the next round. */
  readonly onFailed: (error: unknown) => void;
  /**
   * Runs `work` unless another process does, and returns whether it ran: for stores that several processes share, as they do the cursors.
   * Absent: they are of this process alone.
   */
  readonly exclusively?: ((work: () => Promise<void>) => Promise<boolean>) | undefined;
}): Scrubber {
  const { stores, everyMs, bytesPerSecond, cursors, onRound, onFailed, exclusively } = options;
  const closing = new AbortController();
  const { signal } = closing;
  const partMs = everyMs / PARTS;
  const kinds = stores.map(({ of }) => of);
  let cursor = START;
  let isBegun = false;
  let since = performance.now();
  let savedAt = since;

  async function run(): Promise<void> {
    if (!exclusively) await begin();
    await pause(Math.min(START_MS, partMs));
    for (;;) {
      if (!exclusively) await nextPart();
      else if (!(await runExclusively(exclusively))) await pause(Math.min(START_MS, partMs));
    }
  }

  /** Returns whether it ran. Where the locks or the cursors are away, that is for later. */
  async function runExclusively(exclusively: (work: () => Promise<void>) => Promise<boolean>): Promise<boolean> {
    try {
      return await exclusively(sharedPart);
    } catch (error) {
      signal.throwIfAborted();
      onFailed(error);
      return false;
    }
  }

  async function begin(): Promise<void> {
    cursor = (await cursors.find()) ?? START;
    since = performance.now();
    isBegun = true;
  }

  /** Continues where any process was. */
  async function sharedPart(): Promise<void> {
    await begin();
    try {
      await nextPart();
    } finally {
      await save();
      isBegun = false;
    }
  }

  async function nextPart(): Promise<void> {
    await scrubPart();
    cursor = { ...cursor, part: cursor.part + 1, after: undefined };
    if (cursor.part >= PARTS) await endRound();
    await saveSometimes();
  }

  async function endRound(): Promise<void> {
    countTime();
    onRound(cursor);
    cursor = START;
    await save();
  }

  function countTime(): void {
    const now = performance.now();
    cursor = { ...cursor, ranMs: Math.round(cursor.ranMs + now - since) };
    since = now;
  }

  async function scrubPart(): Promise<void> {
    const hex = cursor.part.toString(16).padStart(2, '0');
    const all = await listAll(hex);
    const first = all.filter(isDone).length;
    const startedAt = performance.now() - (partMs * first) / Math.max(all.length, 1);
    for (const [at, each] of all.entries()) {
      if (at < first) continue;
      await pause(startedAt + (partMs * at) / all.length - performance.now());
      await scrub(each);
      await saveSometimes();
    }
    await pause(startedAt + partMs - performance.now());
  }

  function isDone({ of, digest }: Found): boolean {
    const { after } = cursor;
    if (!after) return false;
    return of === after.of ? digest <= after.digest : kinds.indexOf(of) < kinds.indexOf(after.of);
  }

  async function listAll(hex: string): Promise<readonly Found[]> {
    const found: Found[] = [];
    for (const { of, listPart, verify } of stores) {
      const digests = await listPart(hex).catch(error => {
        onFailed(error);
        return [];
      });
      for (const digest of digests) found.push({ of, digest, verify });
    }
    return found;
  }

  async function scrub({ of, digest, verify }: Found): Promise<void> {
    const limitRate = createRateLimiter(bytesPerSecond, { signal, ref: false });
    const verified = await verify(digest, { limitRate, signal }).catch(error => {
      if (signal.aborted) throw error;
      onFailed(error);
      return undefined;
    });
    cursor = { ...cursor, after: { of, digest } };
    if (!verified) return;
    const { count, bytes, damaged } = cursor;
    const { size, isIntact } = verified;
    cursor = { ...cursor, count: count + 1, bytes: bytes + size, damaged: damaged + (isIntact ? 0 : 1) };
  }

  async function saveSometimes(): Promise<void> {
    if (performance.now() - savedAt > SAVE_EVERY_MS) await save();
  }

  async function save(): Promise<void> {
    countTime();
    savedAt = performance.now();
    // Without it, a part is reread.
    await cursors.save(cursor).catch(onFailed);
  }

  async function pause(ms: number): Promise<void> {
    signal.throwIfAborted();
    if (ms > 0) await setTimeout(ms, undefined, { signal, ref: false });
  }

  const running = run().catch(error => {
    if (!signal.aborted) onFailed(error);
  });
  return {
    async close() {
      closing.abort(new Error('the service is stopping'));
      await running;
      if (isBegun) await save();
    },
  };
}

interface Found extends Pick<StoredContent, 'of' | 'verify'> {
  readonly digest: Digest;
}
