// The scrubber reads all content there is, again and again, so that damage is found while what mends it is still there. It goes through the
// digests part by part, in all stores at once: each part takes the same time, so nobody has to know how much there is.
import { setTimeout } from 'node:timers/promises';
import type { Digest } from '../oci/digest.ts';
import { type ContentKind, type KeptContent, listPart } from './inventory.ts';
import { createPace } from './pace.ts';

interface ScrubberOptions {
  readonly kept: readonly KeptContent[];
  /** All content is read once in this time, as far as the rate allows. */
  readonly everyMs: number;
  /** What is read at most in any second. */
  readonly bytesPerSecond: number;
  /** Where an earlier process has come to, and this one has. */
  readonly places: ScrubPlaces;
  /** Hears of each round that is over. */
  readonly onRound: (round: ScrubTotals) => void;
  /** Hears of what could not be read, and is left for the next round. */
  readonly onFailed: (error: unknown) => void;
}

interface ScrubPlaces {
  find(): Promise<ScrubPlace | undefined>;
  keep(place: ScrubPlace): Promise<void>;
}

export interface ScrubTotals {
  /** Files and bytes that were read. */
  readonly count: number;
  readonly bytes: number;
  readonly damaged: number;
  /** In milliseconds, without the time in which nothing ran. */
  readonly ranMs: number;
}

/** In a round: the part, and what was read last of it. */
export interface ScrubPlace extends ScrubTotals {
  readonly part: number;
  readonly after?: { readonly of: ContentKind; readonly digest: Digest } | undefined;
}

export interface Scrubber {
  /** Stops at once, in the middle of a file too, and keeps the place. */
  close(): Promise<void>;
}

/** By the first two characters of the hex. */
const PARTS = 256;
/** A start has other things to read. */
const START_MS = 60_000;
const KEEP_EVERY_MS = 60_000;
const START: ScrubPlace = { part: 0, count: 0, bytes: 0, damaged: 0, ranMs: 0 };

export function startScrubber(options: ScrubberOptions): Scrubber {
  const { kept, everyMs, bytesPerSecond, places, onRound, onFailed } = options;
  const closing = new AbortController();
  const { signal } = closing;
  const partMs = everyMs / PARTS;
  const kinds = kept.map(({ of }) => of);
  let place = START;
  let isBegun = false;
  let since = performance.now();
  let keptAt = since;

  async function run(): Promise<void> {
    place = (await places.find()) ?? START;
    isBegun = true;
    await pause(Math.min(START_MS, partMs));
    for (;;) {
      await scrubPart();
      place = { ...place, part: place.part + 1, after: undefined };
      if (place.part >= PARTS) await endRound();
      await keepAtTimes();
    }
  }

  async function endRound(): Promise<void> {
    countTime();
    onRound(place);
    place = START;
    await keep();
  }

  function countTime(): void {
    const now = performance.now();
    place = { ...place, ranMs: Math.round(place.ranMs + now - since) };
    since = now;
  }

  async function scrubPart(): Promise<void> {
    const hex = place.part.toString(16).padStart(2, '0');
    const all = await listAll(hex);
    const first = all.filter(isDone).length;
    const startedAt = performance.now() - (partMs * first) / Math.max(all.length, 1);
    for (const [at, each] of all.entries()) {
      if (at < first) continue;
      await pause(startedAt + (partMs * at) / all.length - performance.now());
      await scrub(each);
      await keepAtTimes();
    }
    await pause(startedAt + partMs - performance.now());
  }

  function isDone({ of, digest }: Found): boolean {
    const { after } = place;
    if (!after) return false;
    return of === after.of ? digest <= after.digest : kinds.indexOf(of) < kinds.indexOf(after.of);
  }

  async function listAll(hex: string): Promise<readonly Found[]> {
    const found: Found[] = [];
    for (const { of, directory, verify } of kept) {
      const digests = await listPart(directory, hex).catch(error => {
        onFailed(error);
        return [];
      });
      for (const digest of digests) found.push({ of, digest, verify });
    }
    return found;
  }

  async function scrub({ of, digest, verify }: Found): Promise<void> {
    const pace = createPace(bytesPerSecond, { signal, ref: false });
    const verified = await verify(digest, { pace, signal }).catch(error => {
      if (signal.aborted) throw error;
      onFailed(error);
      return undefined;
    });
    place = { ...place, after: { of, digest } };
    if (!verified) return;
    const { count, bytes, damaged } = place;
    const { size, isIntact } = verified;
    place = { ...place, count: count + 1, bytes: bytes + size, damaged: damaged + (isIntact ? 0 : 1) };
  }

  async function keepAtTimes(): Promise<void> {
    if (performance.now() - keptAt > KEEP_EVERY_MS) await keep();
  }

  async function keep(): Promise<void> {
    countTime();
    keptAt = performance.now();
    // Without it, a part is read once more.
    await places.keep(place).catch(onFailed);
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
      closing.abort(new Error('the service stops'));
      await running;
      if (isBegun) await keep();
    },
  };
}

interface Found extends Pick<KeptContent, 'of' | 'verify'> {
  readonly digest: Digest;
}
