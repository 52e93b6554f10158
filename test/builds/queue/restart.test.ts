// What a service finds of its builds when it starts again, after a stop and after a crash.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createSqliteStore } from '../../../src/state/sqlite.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import {
  createDirectory,
  createFixture,
  ending,
  type Fixture,
  type FixtureOptions,
  logOf,
  me,
  specOf,
  submit,
  until,
} from './fixture.ts';

/** A fixture whose service can crash: what it does afterwards reaches no disk. */
async function createPlace(options: FixtureOptions = {}) {
  const directory = await createDirectory();
  const start = async (process: Pick<FixtureOptions, 'endedByItself'> = {}) => {
    const store = createSqliteStore({ path: join(directory, 'records.db') });
    const dead = new AbortController();
    const records: RecordStore = {
      ...store,
      async write(changes) {
        dead.signal.throwIfAborted();
        await store.write(changes);
      },
    };
    const fixture = await createFixture({ ...options, ...process, records, directory: join(directory, 'logs') });
    const crash = async () => {
      dead.abort();
      await store.close();
    };
    return { fixture, crash, store };
  };
  return { start };
}

const idsOf = ({ works }: Fixture) => works.map(({ options }) => options.id);

test('after a crash all that was under way continues in its old order', async () => {
  const { start } = await createPlace({ policy: { concurrency: 1 } });
  const first = await start();
  const ids: string[] = [];
  for (const name of ['a', 'b', 'c']) ids.push((await submit(first.fixture, name)).id);
  await until(() => first.fixture.works.length === 1);
  first.fixture.works[0]?.options.report({ kind: 'output', text: 'before' });
  await logOf(first.fixture, ids[0] ?? '');
  await first.crash();

  const { fixture } = await start();
  const waiting = ids.map(id => ending(fixture, id));
  for (let n = 0; n < 3; n += 1) {
    await until(() => fixture.works.length === n + 1);
    fixture.works[n]?.succeed();
  }
  const ended = await Promise.all(waiting);
  expect(idsOf(fixture)).toEqual(ids);
  expect(ended.map(record => [record?.status, record?.starts])).toEqual([
    ['succeeded', 2],
    ['succeeded', 1],
    ['succeeded', 1],
  ]);
  const texts = (await logOf(fixture, ids[0] ?? '')).map(({ text }) => text);
  expect(texts).toEqual([
    'before',
    'started again after a restart of the service',
    expect.stringContaining('succeeded'),
  ]);
});

test('one who asks again after a restart gets the build that continues', async () => {
  const { start } = await createPlace();
  const first = await start();
  const { id } = await submit(first.fixture, 'a');
  await until(() => first.fixture.works.length === 1);
  await first.crash();
  const { fixture } = await start();
  expect((await fixture.builds.submit(specOf('a'), me)).build.id).toBe(id);
});

test('a build that ended before a restart is known after it', async () => {
  const { start } = await createPlace();
  const first = await start();
  const { id } = await submit(first.fixture, 'a');
  await until(() => first.fixture.works.length === 1);
  first.fixture.works[0]?.succeed();
  const done = await ending(first.fixture, id);
  await first.crash();
  const { fixture } = await start();
  expect(await ending(fixture, id)).toEqual(done);
  expect(await logOf(fixture, id, true)).toHaveLength(1);
  expect(fixture.works).toEqual([]);
});

test('a build that the service ended by itself with, again and again while it ran alone, is lost', async () => {
  const { start } = await createPlace({ policy: { maxStarts: 3 } });
  for (let crashes = 0; crashes < 3; crashes += 1) {
    const { fixture, crash } = await start({ endedByItself: crashes > 0 });
    if (crashes === 0) await submit(fixture, 'a');
    await until(() => fixture.works.length === 1);
    await fixture.builds.list({ limit: 1, status: 'running' });
    await crash();
  }
  const { fixture } = await start({ endedByItself: true });
  const [record] = await fixture.builds.list({ limit: 1 });
  expect(record).toMatchObject({ status: 'failed', failure: { kind: 'lost' }, starts: 3 });
  expect(fixture.ended).toEqual([record]);
  expect(fixture.works).toEqual([]);
  expect((await logOf(fixture, record?.id ?? '')).at(-1)?.text).toContain('failed (lost)');
});

test('builds that ran while the service was killed are not blamed, however often', async () => {
  const { start } = await createPlace({ policy: { maxStarts: 2 } });
  for (let kills = 0; kills < 6; kills += 1) {
    const { fixture, crash } = await start();
    if (kills === 0) for (const name of ['a', 'b']) await submit(fixture, name);
    await until(() => fixture.works.length === 2);
    await fixture.builds.list({ limit: 1, status: 'running' });
    await crash();
  }
  const { fixture } = await start();
  await until(() => fixture.works.length === 2);
  for (const work of fixture.works) work.succeed();
  await until(() => fixture.ended.length === 2);
  expect(fixture.ended.map(({ status, starts }) => [status, starts])).toEqual(Array(2).fill(['succeeded', 7]));
});

test('of builds that ran while the service ended by itself, each runs alone then, and the guilty one is found', async () => {
  const { start } = await createPlace({ policy: { concurrency: 3, maxStarts: 2 } });
  const specs = new Map<string, string>();
  const isGuilty = (fixture: Fixture) => fixture.works.some(({ options }) => specs.get(options.id) === 'guilty');
  let endedByItself = false;
  let isDone = false;
  for (let starts = 0; !isDone; starts += 1) {
    expect(starts).toBeLessThan(10);
    const { fixture, crash } = await start({ endedByItself });
    if (starts === 0) {
      for (const name of ['innocent', 'guilty', 'other']) specs.set((await submit(fixture, name)).id, name);
      await until(() => fixture.works.length === 3);
    } else {
      // Anyone who comes meanwhile waits.
      specs.set((await submit(fixture, `late ${starts}`)).id, 'late');
    }
    for (
      let ended = fixture.ended.length;
      !isDone && !(isGuilty(fixture) && starts > 0);
      ended = fixture.ended.length
    ) {
      if (starts === 0) break;
      await until(() => fixture.works.some(({ isOver }) => !isOver) || fixture.ended.length > ended);
      if (isGuilty(fixture)) break;
      for (const work of fixture.works.filter(({ isOver }) => !isOver)) work.succeed();
      const all = await fixture.builds.list({ limit: 100 });
      isDone = all.every(({ endedAt }) => endedAt !== undefined);
    }
    if (isDone) break;
    if (starts > 0) expect(fixture.works.filter(({ isOver }) => !isOver)).toHaveLength(1);
    await crash();
    endedByItself = true;
  }
  const { fixture } = await start();
  const found = await fixture.builds.list({ limit: 100 });
  const outcomes = found.map(({ id, status, failure }) => [specs.get(id), status, failure?.kind]);
  expect(outcomes.filter(([, status]) => status !== 'succeeded')).toEqual([['guilty', 'failed', 'lost']]);
});

test('a stop is no crash and no failure, however often: builds go on', async () => {
  const { start } = await createPlace({ policy: { maxStarts: 2 } });
  for (let stops = 0; stops < 5; stops += 1) {
    const { fixture, store } = await start();
    if (stops === 0) await submit(fixture, 'a');
    await until(() => fixture.works.length === 1);
    const [record] = await fixture.builds.list({ limit: 1 });
    const waiting = ending(fixture, record?.id ?? '');
    const following = logOf(fixture, record?.id ?? '', true);
    await fixture.builds.close();
    expect(fixture.works[0]?.options.signal.aborted).toBe(true);
    expect(await waiting).toMatchObject({ status: 'running' });
    expect((await following).at(-1)?.text).toContain('resumes this build');
    expect(fixture.ended).toEqual([]);
    await store.close();
  }
  const { fixture } = await start();
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.succeed();
  await until(() => fixture.ended.length === 1);
  expect(fixture.ended[0]).toMatchObject({ status: 'succeeded', starts: 6 });
});

test('a service that stops takes no builds', async () => {
  const { start } = await createPlace();
  const { fixture } = await start();
  await fixture.builds.close();
  await expect(submit(fixture, 'a')).rejects.toThrow('stopping');
});
