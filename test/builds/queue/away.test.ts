// Builds of several processes while their records are away: nobody has died, so they go on, and nothing is counted.
import { beforeEach, expect, test, vi } from 'vitest';
import { BuildFailure } from '../../../src/builds/execution.ts';
import { DIGEST, ending, type Fixture, logOf, submit, until } from './fixture.ts';
import { createFleet, type Replica, working } from './fleet.ts';

/** Longer than a lease. */
const OUTAGE_MS = 10_000;
const LEASE_MS = 8_000;
/** Short enough for nobody to take it for an outage. */
const STEP_MS = 2_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
  return () => vi.useRealTimers();
});

/** One of two processes runs a build. */
async function start() {
  const { startAll, images, ...fleet } = createFleet();
  const replicas = (await startAll(2)) as [Replica, Replica];
  const { id } = await submit(replicas[0], 'a');
  await until(() => working(replicas).length === 1);
  const [owner, other] = replicas[0].works.length === 1 ? replicas : ([replicas[1], replicas[0]] as const);
  const [work] = working(replicas);
  if (!work) throw new Error('nobody works on it');
  return { ...fleet, owner, other, work, id, images, replicas };
}

const afterLooks = async (replica: Replica, count = 3) => {
  const before = replica.looks();
  await until(() => replica.looks() >= before + count);
};

/** Away for so long that the leases expire. */
async function passOutage({ owner, setAway }: Awaited<ReturnType<typeof start>>, meanwhile: () => unknown = () => {}) {
  setAway(true);
  await meanwhile();
  vi.advanceTimersByTime(OUTAGE_MS);
  setAway(false);
  await owner.overtake();
}

test('a build outlives records that are away for longer than its lease', async () => {
  const fleet = await start();
  const { owner, other, work, id } = fleet;
  const waiting = [ending(owner, id), ending(other, id)];
  await passOutage(fleet);
  await afterLooks(other);
  expect(other.works).toEqual([]);
  work.succeed();
  for (const ended of waiting) expect(await ended).toMatchObject({ status: 'succeeded', digest: DIGEST, starts: 1 });
  expect(owner.works).toHaveLength(1);
  expect((await logOf(other, id)).map(({ text }) => text)).toEqual([expect.stringContaining('succeeded')]);
});

test('a build that ends while the records are away has ended once they are back', async () => {
  const fleet = await start();
  const { owner, other, work, id, images } = fleet;
  await passOutage(fleet, async () => {
    work.succeed();
    await until(() => [...owner.timers].some(({ ms }) => ms === 1000));
  });
  await afterLooks(other);
  for (const timer of owner.timers) if (timer.ms === 1000) timer.goOff();
  expect(await ending(other, id)).toMatchObject({ status: 'succeeded', digest: DIGEST, starts: 1 });
  expect(images.size).toBe(1);
  expect(owner.ended.map(({ id }) => id)).toEqual([id]);
});

test('a build whose process died while the records were away is taken over', async () => {
  const fleet = await start();
  const { owner, other, id } = fleet;
  await passOutage(fleet, () => owner.kill());
  await afterLooks(other);
  expect(other.works).toEqual([]);
  for (let passedMs = STEP_MS; passedMs < LEASE_MS; passedMs += STEP_MS) {
    vi.advanceTimersByTime(STEP_MS);
    await afterLooks(other);
    expect(other.works).toEqual([]);
  }
  vi.advanceTimersByTime(STEP_MS);
  await until(() => other.works.length === 1);
  other.works[0]?.succeed();
  expect(await ending(other, id)).toMatchObject({ status: 'succeeded', starts: 2 });
});

test('what fails while the records are away is tried again when they are back, as often as it takes', async () => {
  const fleet = await start();
  const { owner, id, setAway } = fleet;
  for (let failed = 1; failed <= 5; failed += 1) {
    setAway(true);
    owner.works
      .at(-1)
      ?.fail(
        new BuildFailure({ kind: 'infrastructure', reason: 'the push was answered with 503', platform: undefined }),
      );
    await until(() => owner.works.at(-1)?.isOver === true);
    await new Promise(setImmediate);
    expect(owner.works).toHaveLength(failed);
    setAway(false);
    await until(() => owner.works.length === failed + 1);
  }
  owner.works.at(-1)?.succeed();
  expect(await ending(owner, id)).toMatchObject({ status: 'succeeded', starts: 6 });
  expect([...owner.timers].every(({ ms }) => ms > 60_000)).toBe(true);
});

const numbered = (from: number, to: number) => Array.from({ length: to - from }, (_, n) => `line ${from + n}`);

/** The lines that a follower has got so far, and all once the log has ended. */
async function followLog({ builds }: Fixture, id: string) {
  const seen: string[] = [];
  const log = await builds.openLog(id, { follow: true, signal: new AbortController().signal });
  const ended = (async () => {
    for await (const { text } of log ?? []) seen.push(text ?? '');
    return seen;
  })();
  return { seen, ended };
}

test.for([
  ['away', 'setAway'],
  ['there, but lose their answers', 'setLosesAnswers'],
] as const)('whoever follows a log gets each line once, though the records are %s for a moment', async ([, set]) => {
  const fleet = await start();
  const { owner, other, work, id } = fleet;
  const report = (lines: readonly string[]) => {
    for (const text of lines) work.options.report({ kind: 'output', text });
  };
  report(numbered(0, 3));
  const followers = await Promise.all([owner, other].map(replica => followLog(replica, id)));
  await until(() => followers.every(({ seen }) => seen.length === 3));
  fleet[set](true);
  report(numbered(3, 6));
  // Whoever reads it at its own process has it written first.
  await logOf(owner, id).catch(() => {});
  report(numbered(6, 9));
  await logOf(owner, id).catch(() => {});
  if (set === 'setAway') await until(() => fleet.refused.has(`build/${id}`));
  fleet[set](false);
  report(numbered(9, 12));
  await until(() => followers.every(({ seen }) => seen.length >= 12));
  work.succeed();
  for (const { ended } of followers)
    expect(await ended).toEqual([...numbered(0, 12), expect.stringContaining('succeeded')]);
  expect((await logOf(other, id)).map(({ text }) => text)).toEqual(await followers[0]?.ended);
});

test('the log of a build that ends while the records are away is whole before its result is there', async () => {
  const { owner, other, work, id, setAway } = await start();
  const { ended } = await followLog(other, id);
  setAway(true);
  work.options.report({ kind: 'output', text: 'last words' });
  work.succeed();
  await until(() => [...owner.timers].some(({ ms }) => ms === 1000));
  setAway(false);
  for (const timer of owner.timers) if (timer.ms === 1000) timer.goOff();
  expect(await ended).toEqual(['last words', expect.stringContaining('succeeded')]);
  expect(await ending(other, id)).toMatchObject({ status: 'succeeded', starts: 1 });
});

test('what a builder tells again after the records were away is left out', async () => {
  const { owner, other, work, id, setAway } = await start();
  const { ended } = await followLog(other, id);
  work.options.report({ kind: 'note', text: 'the pod' });
  setAway(true);
  work.options.report({ kind: 'output', text: 'told twice' });
  const resuming = work.options.resume?.('the pod');
  await logOf(owner, id).catch(() => {});
  setAway(false);
  const report = await resuming;
  for (const text of ['told twice', 'new']) report?.({ kind: 'output', text });
  work.succeed();
  expect(await ended).toEqual(['the pod', 'told twice', 'new', expect.stringContaining('succeeded')]);
});
