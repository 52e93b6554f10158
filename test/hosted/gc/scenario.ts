// A scenario of a registry: phases in which clients are at work all at once, each of which ends well or in a crash, and the end of it all.
import type fc from 'fast-check';
import { expect } from 'vitest';
import { createGarbageCollector, type GcPolicy } from '../../../src/hosted/gc/collector.ts';
import { createQuota } from '../../../src/hosted/quota.ts';
import { createHostedRepositories } from '../../../src/hosted/repositories.ts';
import type { Uploads } from '../../../src/hosted/repository/uploads.ts';
import { createHostedStore } from '../../../src/hosted/store.ts';
import { createMemory } from '../../../src/memory.ts';
import { RegistryError } from '../../../src/oci/errors.ts';
import { createProcessLocks, createSharedLocks } from '../../../src/state/locks.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import { audit } from '../audit.ts';
import { createGate, type Gate, type GateOptions } from '../gate.ts';
import { type Action, act, type Registry } from './clients.ts';
import { REPOSITORIES, TAGS } from './documents.ts';
import { DAY, type Environment } from './environment.ts';
import { outcomeOf } from './fixture.ts';
import { deletedBy, type Event, possibleTargets, pushedBy } from './history.ts';
import { type Contents, contentsOf, expectOnlyNeeded, expectUsageCounted, expectWhole } from './history-checks.ts';

const memory = createMemory();

export interface Scenario {
  readonly before: readonly Action[];
  readonly phases: readonly { readonly actions: readonly Action[]; readonly faults: GateOptions }[];
  readonly policy: Partial<GcPolicy>;
  readonly scheduler: fc.Scheduler;
  /** What may have happened to the clients of a phase. */
  readonly check: (events: readonly Event[]) => void;
}

/** Plays a scenario, and checks after each phase what has to be true; then collects, and checks that nothing else is left. */
export async function play(
  environment: Environment,
  { before, phases, policy, scheduler, check }: Scenario,
): Promise<void> {
  const quiet = createGate(undefined, {});
  const hasRetention = (policy.retention ?? []).length > 0;
  for (const action of before) await workAtOnce(environment, [await open(environment, policy)], [action], [quiet]);
  for (const phase of phases) {
    environment.time += 2 * DAY;
    const earlier = await contentsOf(environment.records);
    const replicas = environment.replicas?.records ?? [environment.records];
    // The first one alone meets faults: the others have to go on.
    const { pauses = [] } = phase.faults;
    const gates = replicas.map((_, at) => createGate(scheduler, at === 0 ? phase.faults : { pauses }));
    const registries: Registry[] = [];
    for (const [at, gate] of gates.entries()) registries.push(await open(environment, policy, { gate, at }));
    const events = await workAtOnce(environment, registries, phase.actions, gates);
    check(events);
    await expectWhole(environment.records, environment.content, link => deletedBy(environment.history).has(link));
    await expectUsageCounted(environment.records);
    const now = await contentsOf(environment.records);
    for (const repository of REPOSITORIES) {
      for (const tag of TAGS) {
        const key = `${repository}:${tag}`;
        expect(possibleTargets(environment.history, key, hasRetention && tag !== 'fixed')).toContain(now.tags.get(key));
      }
    }
    const isKept = policy.untaggedMs === undefined ? [...earlier.manifests, ...pushedBy(events)] : [];
    const isYoung = policy.graceMs === 0 ? [] : [...pushedBy(events), ...taggedIn(earlier)];
    for (const link of [...isKept, ...isYoung]) if (!deletedBy(events).has(link)) expect(now.manifests).toContain(link);
  }
  await end(environment, policy);
}

/** What had a tag, and lost it at most a moment ago. */
function taggedIn({ tags }: Contents): readonly string[] {
  return [...tags].map(([key, digest]) => `${key.split(':')[0]}@${digest}`);
}

async function end(environment: Environment, { untaggedMs }: Partial<GcPolicy>): Promise<void> {
  environment.time += 60 * DAY;
  const before = await contentsOf(environment.records);
  const { hosted, collector } = await open(environment, {
    graceMs: 0,
    untaggedMs: untaggedMs === undefined ? undefined : 0,
  });
  await hosted.expireUploads();
  const rehearsed = await collector.collect({ dryRun: true });
  expect(outcomeOf(await collector.collect())).toEqual(outcomeOf(rehearsed));
  expectOnlyNeeded(await contentsOf(environment.records), before, untaggedMs === undefined);
  await expectWhole(environment.records, environment.content, link => deletedBy(environment.history).has(link));
  await expectUsageCounted(environment.records);
  await audit(environment);
  expect(await collector.collect()).toMatchObject({ repositories: [], orphans: { blobs: 0 }, freedBytes: 0 });
}

/** What a start finds: a store over what is there. Locks end with their process. */
async function open(
  environment: Environment,
  policy: Partial<GcPolicy>,
  { gate, at = 0 }: { readonly gate?: Gate; readonly at?: number } = {},
): Promise<Registry> {
  const own = { ...environment, records: environment.replicas?.records[at] ?? environment.records };
  const { records: reached, ...parts } = gate ? gate.around(own) : own;
  const inBucket = environment.replicas?.openBucket?.(at, gate);
  const lock = (store: RecordStore): RecordStore => ({
    ...store,
    locks: environment.replicas ? createSharedLocks({ store, pollMs: POLL_MS, waitMs: WAIT_MS }) : createProcessLocks(),
  });
  // What dies renews no lease.
  const records = lock(reached);
  const quota = await createQuota({ records: lock(own.records), limits: [{ repositories: ['**'], maxBytes: 1e9 }] });
  const store = createHostedStore({
    memory,
    content: inBucket?.content ?? parts.content,
    records,
    now: () => new Date(environment.time),
    options: { sparse: 'refuse', quota, isImmutable: (_, tag) => tag === 'fixed' },
  });
  const hosted = createHostedRepositories(store, (await inBucket?.openUploads(store.records)) ?? parts.uploadFiles);
  return {
    hosted: inBucket ? { ...hosted, uploads: inTwoRequests(hosted.uploads) } : hosted,
    collector: createGarbageCollector(store, { inventory: environment.files, ...policy }),
  };
}

/** Of every other blob the bytes come before the end. */
function inTwoRequests(uploads: Uploads): Uploads {
  return {
    ...uploads,
    async finish(repository, id, digest, chunk) {
      if (!chunk || digest.charCodeAt(digest.length - 1) % 2 === 0)
        return uploads.finish(repository, id, digest, chunk);
      await uploads.append(repository, id, chunk);
      await uploads.finish(repository, id, digest);
    },
  };
}

const POLL_MS = 3;
const WAIT_MS = 120_000;

/** All at once, and each call at a time that the scheduler chooses, until all are done or the process dies. */
async function workAtOnce(
  environment: Environment,
  registries: readonly Registry[],
  actions: readonly Action[],
  gates: readonly Gate[],
): Promise<readonly Event[]> {
  const events = actions.map(
    (action): Event => ({
      action,
      startedAt: environment.ticks++,
      endedAt: Number.POSITIVE_INFINITY,
      outcome: 'unknown',
    }),
  );
  const work = async (registry: Registry, event: (typeof events)[number]) => {
    try {
      await act(registry, event.action);
      event.outcome = 'done';
    } catch (error) {
      event.error = error;
      if (error instanceof RegistryError && error.status < 500) event.outcome = 'refused';
    }
    event.endedAt = environment.ticks++;
  };
  const works = registries.map((registry, at) =>
    events.filter((_, index) => index % registries.length === at).map(event => work(registry, event)),
  );
  await Promise.all(
    gates.map(async (gate, at) => {
      await gate.passAll(works[at] ?? []);
      // What it held when it died is free after a time.
      if (gate.isDead()) environment.replicas?.expireLeases();
    }),
  );
  for (const event of events) event.endedAt = Math.min(event.endedAt, environment.ticks++);
  environment.history.push(...events);
  return events;
}
