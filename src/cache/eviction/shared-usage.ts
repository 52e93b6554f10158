// The usage of a cache that several workers fill: each counts all of its content, and hears from the others what they stored, used and
// removed. Uses are told as often as they are recorded on the disk, so that the order of eviction is that of one process, to the minute.
import type { Digest } from '../../oci/digest.ts';
import type { Usage, Used } from './usage.ts';

/** What a worker tells the others. */
export interface CacheNews {
  /** The number of the worker. */
  readonly worker: number;
  readonly used: readonly Used[];
  readonly gone: readonly Digest[];
  /** The budget that it has reserved for content on its way in. */
  readonly arrivingBytes: number;
}

interface SharedUsage extends Usage {
  /** The budget that the others have reserved. */
  arrivingElsewhere(): number;
  /** To be called when the budget that this worker has reserved changes. */
  setArriving(bytes: number): void;
}

/** A change of the reserved budget that is too small to be told by itself. */
const SMALL_BYTES = 1024 * 1024;

export function createSharedUsage(
  usage: Usage,
  {
    worker,
    tell,
    onNews,
  }: {
    /** The number of this worker. */
    readonly worker: number;
    readonly tell: (news: CacheNews) => void;
    readonly onNews: (listener: (news: CacheNews) => void) => void;
  },
): SharedUsage {
  const elsewhere = new Map<number, number>();
  let used: Used[] = [];
  let gone: Digest[] = [];
  let arrivingBytes = 0;
  let toldBytes = 0;
  let isTelling = false;

  /** After what is being done, and before any other work: whoever gets a lock next has heard what was done under it. */
  function tellSoon(): void {
    if (isTelling) return;
    isTelling = true;
    queueMicrotask(() => {
      isTelling = false;
      toldBytes = arrivingBytes;
      const news = { worker, used, gone, arrivingBytes };
      [used, gone] = [[], []];
      tell(news);
    });
  }

  onNews(news => {
    elsewhere.set(news.worker, news.arrivingBytes);
    for (const digest of news.gone) usage.forget(digest);
    for (const each of news.used) usage.note(each);
  });
  // What its predecessor had reserved is free.
  tellSoon();

  return {
    get bytes() {
      return usage.bytes;
    },
    get count() {
      return usage.count;
    },
    find: usage.find,
    note(noted) {
      const known = usage.find(noted.digest);
      usage.note(noted);
      if (known?.recordedAt === noted.recordedAt && known.size === noted.size) return;
      used.push(noted);
      tellSoon();
    },
    forget(digest) {
      if (!usage.find(digest)) return;
      usage.forget(digest);
      gone.push(digest);
      tellSoon();
    },
    load: usage.load,
    oldest: usage.oldest,
    arrivingElsewhere: () => [...elsewhere.values()].reduce((sum, bytes) => sum + bytes, 0),
    setArriving(bytes) {
      arrivingBytes = bytes;
      if (bytes === 0 ? toldBytes > 0 : Math.abs(bytes - toldBytes) >= SMALL_BYTES) tellSoon();
    },
  };
}
