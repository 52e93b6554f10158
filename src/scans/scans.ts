// Vulnerability scans of images: one per subject for all its requesters, a few at a time, resumed after a restart. Processes that share their
// records share scans: whichever holds the lock on a scan works on it, and another one takes over what a dead one left.
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import type { Logger } from 'pino';
import { z } from 'zod';
import { createLogTail, type LogTail } from '../builds/progress.ts';
import { createNotifier } from '../builds/queue/notifier.ts';
import { RegistryError } from '../oci/errors.ts';
import { createCollection } from '../state/collection.ts';
import { type Change, isTransient, type Lock, RecordConflict, type RecordStore } from '../state/store.ts';
import { hasScanEnded, type ScanRecord, scanIdSchema, scanRecordSchema } from './record.ts';
import { summarize } from './report.ts';
import { ScanFailure, type ScannedImage, type Scanner } from './scanner.ts';

export interface Scans {
  /** Whether a scanner is configured. */
  readonly isAvailable: boolean;
  /**
   * The scan of a subject: one in progress or with a fresh result, else a new one, which waits for `start`. Durable when it resolves.
   * Throws TOOMANYREQUESTS.
   */
  open(subject: ScanSubject): Promise<ScanRecord>;
  /** Starts a scan returned by `open`, unless it has started. `token` is the id by which the image is found, also after a restart. */
  start(id: string, token: string): Promise<void>;
  /** Undefined for an unknown id, or one whose record has expired. */
  find(id: string): Promise<ScanRecord | undefined>;
  /** Whether a further caller, by its subject, has requested this scan. */
  wasRequestedBy(id: string, caller: string): Promise<boolean>;
  /** The id of the latest scan of a build's image. */
  findOfBuild(buildId: string): Promise<string | undefined>;
  /**
   * Resolves with the record once the scan has ended or the service stops; undefined for an unknown id. Rejects with the signal's reason.
   */
  wait(id: string, signal: AbortSignal): Promise<ScanRecord | undefined>;
  /** The SBOM as SPDX JSON; undefined if there is none. */
  findSpdx(id: string): Promise<string | undefined>;
  close(): Promise<void>;
}

interface ScanSubject extends Pick<ScanRecord, 'image' | 'repository' | 'caller' | 'buildId'> {
  /** Identifies what is scanned: equal subjects share a scan. */
  readonly key: unknown;
}

interface ScansPolicy {
  readonly concurrency: number;
  /** The maximum number of queued and running scans. */
  readonly maxQueued: number;
  /** How long a result is reused before the image is scanned again for newly published vulnerabilities. */
  readonly freshMs: number;
  readonly keepMs: number;
}

interface ScansDeps {
  readonly records: RecordStore;
  /** Undefined where none is configured. */
  readonly scanner: Scanner | undefined;
  /** The image of a token, as it will be pulled: waits until it is built. Throws ScanFailure or RegistryError. */
  readonly openImage: (token: string, signal: AbortSignal) => Promise<ScannedImage>;
  /** Called once for each scan that has succeeded. */
  readonly onEnded?: (scan: ScanRecord) => void;
  readonly policy: ScansPolicy;
  readonly now: () => Date;
  readonly log: Logger;
  /** How often to look for what other processes have left. */
  readonly lookMs?: number;
}

const LOOK_MS = 5_000;
/** How often those who wait look for the end of a scan of another process. */
const WAIT_MS = 500;
/** How long a scan is not taken over after the death of its process. */
const LEASE = { ttlMs: 8_000 } as const;
/** The maximum time from `open` to `start`: after that the request has failed. */
const START_MS = 60_000;
const MAX_VULNERABILITIES = 1000;
const MAX_LOG = 64 * 1024;
const MAX_REASON = 1000;
/** In characters. */
const MAX_SPDX = 4 * 1024 * 1024;
const MAX_RESUMED = 1000;

/** Continues the scans that an earlier process left unfinished. */
export async function createScans({
  records,
  scanner,
  openImage,
  onEnded,
  policy,
  now,
  log,
  lookMs = LOOK_MS,
}: ScansDeps): Promise<Scans> {
  const { locks } = records;
  const scans = createCollection({ store: records, name: 'scan', schema: scanRecordSchema });
  const attempts = createCollection({ store: records, name: 'scan-attempt', schema: scanIdSchema });
  const callers = createCollection({ store: records, name: 'scan-caller', schema: z.literal(true) });
  const builds = createCollection({ store: records, name: 'scan-build', schema: scanIdSchema });
  const unfinished = createCollection({ store: records, name: 'scan-open', schema: z.string() });
  const sboms = createCollection({ store: records, name: 'scan-spdx', schema: z.string() });
  const closing = new AbortController();
  const limit = pLimit(policy.concurrency);
  const ended = createNotifier();
  /** By id: the queued and running scans of this process. */
  const jobs = new Map<string, Promise<void>>();

  const expiry = () => ({ expiresAt: new Date(now().getTime() + policy.keepMs) });

  async function openOne(hex: string, subject: Omit<ScanSubject, 'key'>, { fence }: Lock): Promise<ScanRecord> {
    const latestId = await attempts.find(hex);
    const latest = latestId === undefined ? undefined : await scans.find(latestId);
    if (latest && (await isUsable(latest))) {
      const { caller } = subject;
      if (caller !== '' && caller !== latest.caller) await callers.put(callerKey(latest.id, caller), true, expiry());
      return latest;
    }
    if (jobs.size >= policy.maxQueued) {
      const reason = `${jobs.size} scans wait already, the maximum (scans.queue): try again when some have ended`;
      throw new RegistryError('TOOMANYREQUESTS', reason, { status: 429, retryAfterSeconds: 30 });
    }
    const id = `sc-${hex}_${Number(latestId?.split('_').at(-1) ?? 0) + 1}`;
    const record = scanRecordSchema.parse({ ...subject, id, status: 'queued', createdAt: now().toISOString() });
    const ofBuild = subject.buildId === undefined ? [] : [builds.putting(subject.buildId, id, expiry())];
    const changes = [scans.putting(id, record, expiry()), attempts.putting(hex, id, expiry()), ...ofBuild];
    await records.write(changes, { expected: fence });
    return record;
  }

  async function isUsable(scan: ScanRecord): Promise<boolean> {
    if (!hasScanEnded(scan))
      return (await isUnderWay(scan.id)) || Date.parse(scan.createdAt) + START_MS > now().getTime();
    const endedAt = Date.parse(scan.endedAt ?? scan.createdAt);
    return scan.status === 'succeeded' && endedAt + policy.freshMs > now().getTime();
  }

  async function isUnderWay(id: string): Promise<boolean> {
    return jobs.has(id) || (locks.areShared && (await unfinished.has(id)));
  }

  /** Unless this process or another one is at it. */
  function begin(id: string, token: string): void {
    if (jobs.has(id)) return;
    const job = locks
      .withFreeLock(`scan/${id}`, lock => work(id, token, lock), LEASE)
      .catch(error => {
        const isKnown = error instanceof RecordConflict || (locks.areShared && isTransient(error));
        if (!closing.signal.aborted && !isKnown)
          log.error({ err: error, scan: id }, 'the result of a scan cannot be stored');
      })
      .finally(() => {
        jobs.delete(id);
        ended.notify();
      });
    jobs.set(id, job);
  }

  async function work(id: string, token: string, lock: Lock): Promise<void> {
    const record = await scans.find(id);
    // Another process has ended it, or its record has expired.
    if (!record || hasScanEnded(record)) return void (await unfinished.delete(id));
    const logged = createLogTail(MAX_LOG);
    const signal = AbortSignal.any([closing.signal, lock.lost]);
    try {
      const image = await openImage(token, signal);
      await limit(() => scan(id, image, { logged, lock, signal }));
    } catch (error) {
      // It is resumed, here after a restart or by the process that has its lock now.
      if (signal.aborted) return;
      if (error instanceof RecordConflict) throw error;
      if (!(error instanceof ScanFailure || error instanceof RegistryError))
        log.error({ err: error, scan: id }, 'a scan failed');
      await finish(id, { status: 'failed', reason: reasonOf(error), logs: logged.text }, lock);
    }
  }

  async function scan(id: string, image: ScannedImage, { logged, lock, signal }: Scanning): Promise<void> {
    signal.throwIfAborted();
    if (!scanner) throw new ScanFailure('no scanner is configured any more (scans in veneer.yaml)');
    await update(id, { status: 'running', startedAt: now().toISOString() }, lock);
    const { found, spdx } = await scanner(image, logged.add, signal);
    const isStored = spdx !== undefined && spdx.length <= MAX_SPDX;
    if (isStored) await records.write([sboms.putting(id, spdx, expiry())], { expected: lock.fence });
    else if (spdx !== undefined) logged.add(`the SBOM has more than ${MAX_SPDX} characters, and is not stored`);
    const platforms = image.images.map(({ platform }) => platform);
    const result = { ...summarize(found, MAX_VULNERABILITIES), platforms, digest: image.digest, logs: logged.text };
    await finish(id, { status: 'succeeded', ...result }, lock);
  }

  async function update(
    id: string,
    change: Partial<ScanRecord>,
    { fence }: Lock,
    more: readonly Change[] = [],
  ): Promise<ScanRecord | undefined> {
    const record = await scans.find(id);
    if (!record) return undefined;
    const changed = { ...record, ...change };
    await records.write([scans.putting(id, changed, expiry()), ...more], { expected: fence });
    return changed;
  }

  async function finish(id: string, change: Partial<ScanRecord>, lock: Lock): Promise<void> {
    const end = { ...change, endedAt: now().toISOString() };
    const record = await update(id, end, lock, [unfinished.deleting(id)]);
    if (!record) return void (await unfinished.delete(id));
    log.info(
      { scan: id, image: record.image, status: record.status, counts: record.counts, reason: record.reason },
      'scan ended',
    );
    if (record.status === 'succeeded') onEnded?.(record);
  }

  async function beginUnfinished(): Promise<void> {
    for (const { key, value } of await unfinished.entries({ limit: MAX_RESUMED })) begin(key, value);
  }

  async function keepLooking(): Promise<void> {
    for (;;) {
      await delay(lookMs, undefined, { signal: closing.signal, ref: false });
      await beginUnfinished().catch(error => {
        if (!isTransient(error)) log.error({ err: error }, 'unfinished scans cannot be read');
      });
    }
  }

  await beginUnfinished();
  if (locks.areShared) keepLooking().catch(() => {});

  return {
    isAvailable: scanner !== undefined,
    open({ key, ...subject }) {
      const hex = createHash('sha256').update(JSON.stringify(key)).digest('hex').slice(0, 16);
      // Equal subjects get one scan.
      return locks.withLock(`scan-open/${hex}`, lock => openOne(hex, subject, lock));
    },
    async start(id, token) {
      const record = await scans.find(id);
      if (!record || hasScanEnded(record) || jobs.has(id)) return;
      await unfinished.put(id, token, expiry());
      begin(id, token);
    },
    find: id => scans.find(id),
    wasRequestedBy: (id, caller) => callers.has(callerKey(id, caller)),
    findOfBuild: buildId => builds.find(buildId),
    async wait(id, signal) {
      for (;;) {
        while (jobs.has(id)) await ended.wait(signal);
        const record = await scans.find(id);
        const isOver = !record || hasScanEnded(record) || closing.signal.aborted || !(await isUnderWay(id));
        if (isOver) return record;
        await delay(WAIT_MS, undefined, { signal: AbortSignal.any([signal, closing.signal]) }).catch(() => {});
        signal.throwIfAborted();
      }
    },
    findSpdx: id => sboms.find(id),
    async close() {
      closing.abort();
      await Promise.all(jobs.values());
    },
  };
}

interface Scanning {
  readonly logged: LogTail;
  readonly lock: Lock;
  readonly signal: AbortSignal;
}

function callerKey(id: string, caller: string): string {
  return `${id} ${caller}`;
}

/** Unexpected errors are only described in the log. */
function reasonOf(error: unknown): string {
  const isKnown = error instanceof ScanFailure || error instanceof RegistryError;
  const reason = isKnown ? error.message : 'internal error: the log of Veneer has the cause';
  return reason
    .replaceAll(/[\s\p{Cc}]+/gu, ' ')
    .slice(0, MAX_REASON)
    .toWellFormed();
}
