// Builds of several processes while their records are away: nobody has died, so they go on, and nothing is counted.
import { beforeEach, expect, test, vi } from 'vitest';
import { BuildFailure } from '../../../src/builds/execution.ts';
import { DIGEST, ending, logOf, submit, until } from './fixture.ts';
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
  const { startAll, setAway, images } = createFleet();
  const replicas = (await startAll(2)) as [Replica, Replica];
  const { id } = await submit(replicas[0], 'a');
  await until(() => working(replicas).length === 1);
  const [owner, other] = replicas[0].works.length === 1 ? replicas : ([replicas[1], replicas[0]] as const);
  const [work] = working(replicas);
  if (!work) throw new Error('nobody works on it');
  return { owner, other, work, id, setAway, images, replicas };
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
