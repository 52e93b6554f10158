// Builds of several processes at one store: one build for equal requests, wherever they come; what a dead process left is taken over, and one
// that was overtaken changes nothing.
import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { digestOf } from '../../../src/oci/digest.ts';
import { UNFENCED } from '../../../src/state/locks.ts';
import { BROKEN, DIGEST, ending, type Fixture, logOf, me, specOf, submit, until, type Work } from './fixture.ts';
import { createFleet, type Replica, working } from './fleet.ts';

const endedIds = (replicas: readonly Fixture[]) => replicas.flatMap(({ ended }) => ended.map(({ id }) => id));
const textsOf = async (fixture: Fixture, id: string) => (await logOf(fixture, id)).map(({ text }) => text);

/** The one that works on the build, and the others. */
async function findOwner<R extends Fixture>(replicas: readonly R[], id: string) {
  const find = () => replicas.find(({ works }) => works.some(({ options, isOver }) => options.id === id && !isOver));
  await until(() => find() !== undefined);
  const owner = find();
  if (!owner) throw new Error('nobody works on it');
  const work = owner.works.find(({ options, isOver }) => options.id === id && !isOver);
  if (!work) throw new Error('its work is over');
  return { owner, work, others: replicas.filter(replica => replica !== owner) };
}

test('fifty who ask three processes at the same time get one build, and its image from each', async () => {
  const { startAll } = createFleet();
  const replicas = await startAll(3);
  const asked = await Promise.all(
    Array.from({ length: 50 }, async (_, n) => {
      const replica = replicas[n % 3] as Replica;
      const { id } = await submit(replica, 'a');
      return { id, ended: ending(replica, id) };
    }),
  );
  expect(new Set(asked.map(({ id }) => id)).size).toBe(1);
  const { work } = await findOwner(replicas, asked[0]?.id ?? '');
  work.succeed();
  for (const { ended } of asked) expect(await ended).toMatchObject({ status: 'succeeded', digest: DIGEST, starts: 1 });
  expect(replicas.flatMap(({ works }) => works)).toHaveLength(1);
  expect(endedIds(replicas)).toEqual([asked[0]?.id]);
  for (const { builds } of replicas) expect((await builds.submit(specOf('a'), me)).isCached).toBe(true);
});

test('what waits is claimed by whichever process has a place first, and none runs more than it may', async () => {
  const { startAll } = createFleet({ policy: { concurrency: 1 } });
  const replicas = await startAll(2);
  const [a] = replicas as [Replica];
  const ids: string[] = [];
  for (const name of ['a', 'b', 'c', 'd']) ids.push((await submit(a, name)).id);
  await until(() => working(replicas).length === 2);
  expect(replicas.map(({ works }) => works.length)).toEqual([1, 1]);
  const { others, work } = await findOwner(replicas, ids[1] ?? '');
  work.succeed();
  await until(() => work.isOver && working(replicas).length === 2);
  expect(working(replicas).map(({ options }) => options.id)).toEqual(expect.arrayContaining([ids[0], ids[2]]));
  expect(others[0]?.works).toHaveLength(1);
});

test('callers are served in turn, also those who asked another process', async () => {
  const { startAll } = createFleet({ policy: { concurrency: 1 } });
  const [a, b] = (await startAll(2)) as [Replica, Replica];
  const first = await submit(a, 'first');
  const second = await submit(a, 'second');
  await until(() => working([a, b]).length === 2);
  for (const name of ['one-1', 'one-2', 'one-3']) await submit(a, name, { caller: 'one' });
  const { id } = await submit(b, 'two-1', { caller: 'two' });
  await until(() => a.builds.counts().queued === 4 && b.builds.counts().queued === 4);
  (await findOwner([a, b], first.id)).work.succeed();
  (await findOwner([a, b], second.id)).work.succeed();
  await until(() => working([a, b]).length === 2);
  expect(working([a, b]).map(({ options }) => options.id)).toContain(id);
});

test('what a killed process ran is taken over, and who waits elsewhere gets the image', async () => {
  const { startAll } = createFleet();
  const replicas = await startAll(3);
  const { id } = await submit(replicas[0] as Replica, 'a');
  const { owner, work, others } = await findOwner(replicas, id);
  work.options.report({ kind: 'output', text: 'before' });
  await logOf(owner, id);
  const waiting = others.map(other => ending(other, id));
  await owner.kill();
  const next = await findOwner(others, id);
  expect(await next.others[0]?.builds.find(id)).toMatchObject({ status: 'running', starts: 2 });
  next.work.options.report({ kind: 'output', text: 'after' });
  next.work.succeed();
  expect((await Promise.all(waiting)).map(record => record?.status)).toEqual(['succeeded', 'succeeded']);
  expect(await textsOf(next.others[0] as Replica, id)).toEqual([
    'before',
    'started again: the process that ran it is gone',
    'after',
    expect.stringContaining('succeeded'),
  ]);
  expect(endedIds(others)).toEqual([id]);
});

test('what a killed process had queued alone is not lost', async () => {
  const { startAll } = createFleet({ policy: { concurrency: 1 } });
  const [a, b] = (await startAll(2)) as [Replica, Replica];
  const ids: string[] = [];
  for (const name of ['a', 'b', 'c', 'd', 'e']) ids.push((await submit(a, name)).id);
  await until(() => working([a, b]).length === 2);
  await a.kill();
  for (let done = 1; done <= ids.length; done += 1) {
    await until(() => working([b]).length === 1);
    working([b])[0]?.succeed();
    await until(() => b.ended.length === done);
  }
  expect(endedIds([b]).toSorted()).toEqual(ids.toSorted());
});

const ENDS: Readonly<Record<string, (work: Work) => void>> = {
  success: work => work.succeed(digestOf(Buffer.from('of one that was overtaken'))),
  failure: work => work.fail(BROKEN),
};

test.each(Object.keys(ENDS))(
  'the %s of one that was overtaken changes neither the record nor the log or tag',
  async how => {
    const { startAll, images } = createFleet({ isDeaf: true });
    const replicas = await startAll(2);
    const { id, image } = await submit(replicas[0] as Replica, 'a');
    const { owner, work, others } = await findOwner(replicas, id);
    await owner.overtake();
    const next = await findOwner(others, id);
    const waiting = ending(owner, id);
    next.work.succeed();
    expect(await ending(next.owner, id)).toMatchObject({ status: 'succeeded', digest: DIGEST, starts: 2 });
    work.options.report({ kind: 'output', text: 'of one that was overtaken' });
    ENDS[how]?.(work);
    await until(() => work.isOver && owner.builds.counts().running === 0);
    expect(images.get(image)).toBe(DIGEST);
    expect(await waiting).toMatchObject({ status: 'succeeded', digest: DIGEST, starts: 2 });
    expect(endedIds(replicas)).toEqual([id]);
    expect(await textsOf(owner, id)).toEqual([
      'started again: the process that ran it is gone',
      expect.stringContaining('succeeded'),
    ]);
  },
);

test('any process cancels what another one runs, what waits, and what a dead one left', async () => {
  const { startAll } = createFleet({ policy: { concurrency: 1 } });
  const replicas = await startAll(3);
  const [a] = replicas as [Replica];
  const [running, waiting, left] = [await submit(a, 'a'), await submit(a, 'b'), await submit(a, 'c')];
  await until(() => working(replicas).length === 3);
  const queued = await submit(a, 'd');
  const { others } = await findOwner(replicas, running.id);
  expect(await others[0]?.builds.cancel(running.id)).toMatchObject({ failure: { kind: 'cancelled' } });
  // The place that is free now is taken.
  await until(() => working(replicas).length === 3);
  const last = await submit(a, 'e');
  const [one, two] = await Promise.all([others[1]?.builds.cancel(last.id), others[0]?.builds.cancel(last.id)]);
  expect([one, two]).toMatchObject([{ failure: { kind: 'cancelled' } }, { failure: { kind: 'cancelled' } }]);
  const { owner, others: alive } = await findOwner(replicas, left.id);
  await owner.kill();
  expect(await alive[0]?.builds.cancel(left.id)).toMatchObject({ failure: { kind: 'cancelled' } });
  expect(await alive[1]?.builds.cancel(left.id)).toMatchObject({ failure: { kind: 'cancelled' } });
  expect(endedIds(replicas).toSorted()).toEqual([running.id, last.id, left.id].toSorted());
  expect([waiting.id, queued.id]).toEqual(
    expect.arrayContaining((await a.builds.list({ limit: 9, status: 'running' })).map(({ id }) => id)),
  );
});

test('the log is followed from another process as it grows, to its end, and read while it grows', async () => {
  const { startAll } = createFleet();
  const replicas = await startAll(2);
  const { id } = await submit(replicas[0] as Replica, 'a');
  const { work, others } = await findOwner(replicas, id);
  const [other] = others as [Replica];
  const log = await other.builds.openLog(id, { follow: true, signal: new AbortController().signal });
  const seen: (string | undefined)[] = [];
  const following = (async () => {
    for await (const { text } of log ?? []) seen.push(text);
  })();
  for (let n = 0; n < 3; n += 1) {
    work.options.report({ kind: 'output', text: `line ${n}` });
    await until(() => seen.length === n + 1);
  }
  expect(await textsOf(other, id)).toEqual(['line 0', 'line 1', 'line 2']);
  work.succeed();
  await following;
  expect(seen).toEqual(['line 0', 'line 1', 'line 2', expect.stringContaining('succeeded')]);
  expect(await textsOf(other, id)).toEqual(seen);
});

test('a log of many lines is read elsewhere as it was written, and is swept without its record', async () => {
  const { startAll, store } = createFleet({ policy: { maxLogBytes: 3_000_000, keepMs: 1 } });
  const [a, b] = (await startAll(2)) as [Replica, Replica];
  const { id } = await submit(a, 'a');
  const { work } = await findOwner([a, b], id);
  const lines = Array.from({ length: 3000 }, (_, n) => `${n} ${'x'.repeat(500)}`);
  for (const text of lines) work.options.report({ kind: 'output', text });
  work.succeed();
  await ending(b, id);
  expect((await textsOf(b, id)).slice(0, -1)).toEqual(lines);
  const sizes = (await store.entries('build-log', { limit: 1000 })).map(({ value }) => value.byteLength);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(128 * 1024);
  while ((await b.builds.find(id)) !== undefined) await new Promise(resolve => setTimeout(resolve, 1));
  await b.builds.sweep();
  expect(await store.list('build-log', { limit: 1 })).toEqual([]);
});

test('one that stops hands on what it runs, and refuses what it is asked for', async () => {
  const { startAll } = createFleet();
  const replicas = await startAll(2);
  const { id } = await submit(replicas[0] as Replica, 'a');
  const { owner, others } = await findOwner(replicas, id);
  const [other] = others as [Replica];
  const waiting = [ending(owner, id), ending(other, id)];
  await owner.builds.close();
  expect(await waiting[0]).toMatchObject({ id });
  (await findOwner([other], id)).work.succeed();
  expect(await waiting[1]).toMatchObject({ status: 'succeeded', starts: 2 });
  expect(await textsOf(other, id)).toEqual([
    'interrupted: the service stops, another process continues this build',
    expect.stringContaining('succeeded'),
  ]);
});

test('a failure is the same everywhere, and a retry anywhere is one new build', async () => {
  const { startAll } = createFleet();
  const replicas = await startAll(3);
  const { id } = await submit(replicas[0] as Replica, 'a');
  (await findOwner(replicas, id)).work.fail(BROKEN);
  for (const replica of replicas) expect(await ending(replica, id)).toMatchObject({ failure: BROKEN.failure });
  const retried = await Promise.all(replicas.map(({ builds }) => builds.retry(id, me)));
  expect(new Set(retried.map(record => record?.id))).toEqual(new Set([id.replace('_1', '_2')]));
  await findOwner(replicas, id.replace('_1', '_2'));
  expect(working(replicas)).toHaveLength(1);
});

test('a build whose processes die again and again runs alone, and is lost in the end', async () => {
  const { start } = createFleet({ policy: { maxStarts: 2 } });
  let replica = await start();
  const { id } = await submit(replica, 'a');
  for (let deaths = 0; deaths < 4; deaths += 1) {
    await findOwner([replica], id);
    // So that its log is written.
    await logOf(replica, id);
    await replica.kill();
    replica = await start();
  }
  expect(await ending(replica, id)).toMatchObject({ status: 'failed', failure: { kind: 'lost' }, starts: 4 });
  expect(await textsOf(replica, id)).toContain('started again: the process that ran it is gone, alone');
});

test('of a hundred builds of two processes that are killed, a hundred are taken over and end, once each', async () => {
  const { startAll } = createFleet({ policy: { concurrency: 50 } });
  const first = await startAll(2);
  const ids: string[] = [];
  for (let n = 0; n < 100; n += 1) ids.push((await submit(first[n % 2] as Replica, `image-${n}`)).id);
  await until(() => working(first).length === 100);
  const second = await startAll(2);
  for (const replica of first) await replica.kill();
  await until(() => working(second).length === 100);
  for (const work of working(second)) work.succeed();
  await until(() => endedIds(second).length === 100);
  expect(endedIds(second).toSorted()).toEqual(ids.toSorted());
  const records = await second[0]?.builds.list({ limit: 200 });
  expect(records?.map(({ status, starts }) => `${status} ${starts}`)).toEqual(ids.map(() => 'succeeded 2'));
});

test('builds of processes that are killed one after the other all end', async () => {
  const { start, startAll } = createFleet({ policy: { concurrency: 10, maxStarts: 100 } });
  let replicas = await startAll(3);
  const ids: string[] = [];
  for (let n = 0; n < 60; n += 1) ids.push((await submit(replicas[n % 3] as Replica, `image-${n}`)).id);
  const all = () => (replicas[0] as Replica).builds.list({ limit: 100 });
  for (let round = 1; (await all()).some(({ status }) => status !== 'succeeded'); round += 1) {
    for (const work of working(replicas).slice(0, 5)) work.succeed();
    if (round % 3 === 0) {
      await replicas[0]?.kill();
      replicas = [...replicas.slice(1), await start()];
    }
    await new Promise(resolve => setTimeout(resolve, 1));
  }
  expect((await all()).map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
});

test('workers share builds as well: one that dies is followed at once, and a stop of all blames no build', async () => {
  const { start, startAll } = createFleet({ kind: 'workers', policy: { concurrency: 1, maxStarts: 1 } });
  let workers = await startAll(2);
  const ids = [(await submit(workers[0] as Replica, 'a')).id, (await submit(workers[0] as Replica, 'b')).id];
  await until(() => working(workers).length === 2);
  // Nobody takes what the other one has.
  await new Promise(resolve => setTimeout(resolve, 20));
  expect(workers.map(({ works, builds }) => [works.length, builds.counts().queued])).toEqual([
    [1, 0],
    [1, 0],
  ]);
  for (let stops = 0; stops < 5; stops += 1) {
    await Promise.all(workers.map(({ builds }) => builds.close()));
    workers = await startAll(2);
    await until(() => working(workers).length === 2);
  }
  // Those of the two that run: this lock outlives all builds, so what is left on it is never freed.
  expect(getEventListeners(UNFENCED.lost, 'abort')).toHaveLength(2);
  await workers[0]?.kill();
  workers = [workers[1] as Replica, await start()];
  await until(() => working(workers).length === 2);
  for (const work of working(workers)) work.succeed();
  for (const id of ids) expect(await ending(workers[0] as Replica, id)).toMatchObject({ status: 'succeeded' });
});
