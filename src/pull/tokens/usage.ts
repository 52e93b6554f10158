// Daily usage of the augment API: builds, pulls, mirrors and scans, by organisation and architecture. Counted in memory and stored every
// few seconds, so that no request waits for it; a crash loses the last few seconds.
import type { Logger } from 'pino';
import { z } from 'zod';
import { createCollection } from '../../state/collection.ts';
import type { RecordStore } from '../../state/store.ts';

export type UsageMetric = 'builds' | 'pulls' | 'fusion' | 'mirrors' | 'scans';

interface Used {
  /** The subject of the caller; empty: anonymous. */
  readonly caller: string;
  /** A platform such as `linux/arm64`; undefined: several, or unknown. */
  readonly platform: string | undefined;
}

export interface UsageFilter {
  /** `yyyy-mm-dd`, in UTC; undefined: all stored days. */
  readonly date: string | undefined;
  readonly org: string | undefined;
  readonly arch: string | undefined;
}

interface UsageCount {
  /** Includes anonymous callers. */
  readonly count: number;
  readonly orgs: Readonly<Record<string, number>>;
}

export interface Usage {
  count(metric: UsageMetric, used: Used): void;
  read(metric: UsageMetric, filter: UsageFilter): Promise<UsageCount>;
  /** Stores what has been counted. */
  close(): Promise<void>;
}

interface UsageDeps {
  readonly records: RecordStore;
  readonly now: () => Date;
  readonly log: Logger;
  readonly everyMs?: number;
}

const EVERY_MS = 5000;
const KEEP_MS = 400 * 86_400_000;
const MAX_DAYS = 400;
/** The maximum number of organisations per day: further ones are counted together. */
const MAX_ORGS = 1000;
const MAX_ARCHS = 20;
const OTHERS = 'others';

/** By organisation, then by architecture. */
type Day = Record<string, Record<string, number>>;

const daySchema = z.record(z.string(), z.record(z.string(), z.int()));

export function createUsage({ records, now, log, everyMs = EVERY_MS }: UsageDeps): Usage {
  const days = createCollection({ store: records, name: 'usage', schema: daySchema });
  let counted = new Map<string, Day>();
  let storing = Promise.resolve();

  async function store(): Promise<void> {
    const taken = counted;
    counted = new Map();
    for (const [key, added] of taken) {
      await days.update(key, known => {
        const day: Day = structuredClone(known ?? {});
        for (const [org, archs] of Object.entries(added))
          for (const [arch, count] of Object.entries(archs)) add(day, [org, arch], count);
        return { record: day, expiresAt: new Date(now().getTime() + KEEP_MS) };
      });
    }
  }

  function storeNext(): Promise<void> {
    storing = storing.then(store).catch(error => log.warn({ err: error }, 'some usage was not counted'));
    return storing;
  }

  const timer = setInterval(() => counted.size > 0 && storeNext(), everyMs);
  timer.unref();

  return {
    count(metric, { caller, platform }) {
      const key = `${metric}/${now().toISOString().slice(0, 10)}`;
      const day = counted.get(key) ?? {};
      counted.set(key, day);
      add(day, [orgOf(caller), archOf(platform)], 1);
    },
    async read(metric, { date, org, arch }) {
      await storeNext();
      const entries =
        date === undefined
          ? (await days.entries({ prefix: `${metric}/`, limit: MAX_DAYS })).map(({ value }) => value)
          : [(await days.find(`${metric}/${date}`)) ?? {}];
      const orgs: Record<string, number> = {};
      let count = 0;
      for (const [name, archs] of entries.flatMap(day => Object.entries(day))) {
        if (org !== undefined && name !== org) continue;
        const used = Object.entries(archs).reduce(
          (sum, [of, n]) => (arch === undefined || of === arch ? sum + n : sum),
          0,
        );
        count += used;
        if (name !== '' && used > 0) orgs[name] = (orgs[name] ?? 0) + used;
      }
      return { count, orgs };
    },
    async close() {
      clearInterval(timer);
      await storeNext();
    },
  };
}

/** Changes the day. */
function add(day: Day, [org, arch]: readonly [org: string, arch: string], count: number): void {
  const name = nameIn(day, org, MAX_ORGS);
  const archs = Object.hasOwn(day, name) ? day[name] : undefined;
  const counts = archs ?? {};
  if (!archs) day[name] = counts;
  const known = nameIn(counts, arch, MAX_ARCHS);
  counts[known] = (counts[known] ?? 0) + count;
}

function nameIn(names: Readonly<Record<string, unknown>>, name: string, max: number): string {
  return Object.hasOwn(names, name) || Object.keys(names).length < max ? name : OTHERS;
}

/** The domain of an email address, else the name. */
function orgOf(caller: string): string {
  return caller.slice(caller.lastIndexOf('@') + 1);
}

function archOf(platform: string | undefined): string {
  return (
    platform
      ?.split(',', 1)[0]
      ?.split('/')
      .find(part => part !== 'linux' && part !== 'windows') ?? ''
  );
}
