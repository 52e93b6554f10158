// What a service finds of its builds when it starts again, after a stop and after a crash.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createSqliteStore } from '../../../src/state/sqlite.ts';
import type { RecordStore } from '../../../src/state/store.ts';
import {
  createDirectory,
  createWorld,
  ending,
  logOf,
  me,
  specOf,
  submit,
  until,
  type World,
  type WorldOptions,
} from './fixture.ts';

/** A world whose service can crash: what it does afterwards reaches no disk. */
async function createPlace(options: WorldOptions = {}) {
  const directory = await createDirectory();
  const start = async (process: Pick<WorldOptions, 'endedByItself'> = {}) => {
    const store = createSqliteStore({ path: join(directory, 'records.db') });
    const dead = new AbortController();
    const records: RecordStore = {
      ...store,
      async write(changes) {
        dead.signal.throwIfAborted();
        await store.write(changes);
      },
    };
    const world = await createWorld({ ...options, ...process, records, directory: join(directory, 'logs') });
    const crash = async () => {
      dead.abort();
      await store.close();
    };
    return { world, crash, store };
  };
  return { start };
}

const idsOf = ({ works }: World) => works.map(({ options }) => options.id);

test('after a crash all that was under way goes on in its old order', async () => {
  const { start } = await createPlace({ policy: { concurrency: 1 } });
  const first = await start();
  const ids: string[] = [];
  for (const name of ['a', 'b', 'c']) ids.push((await submit(first.world, name)).id);
  await until(() => first.world.works.length === 1);
  first.world.works[0]?.options.report({ kind: 'output', text: 'before' });
  await logOf(first.world, ids[0] ?? '');
  await first.crash();

  const { world } = await start();
  const waiting = ids.map(id => ending(world, id));
  for (let n = 0; n < 3; n += 1) {
    await until(() => world.works.length === n + 1);
    world.works[n]?.succeed();
  }
  const ended = await Promise.all(waiting);
  expect(idsOf(world)).toEqual(ids);
  expect(ended.map(record => [record?.status, record?.starts])).toEqual([
    ['succeeded', 2],
    ['succeeded', 1],
    ['succeeded', 1],
  ]);
  const texts = (await logOf(world, ids[0] ?? '')).map(({ text }) => text);
  expect(texts).toEqual([
    'before',
    'started again after a restart of the service',
    expect.stringContaining('succeeded'),
  ]);
});

test('one who asks again after a restart gets the build that goes on', async () => {
  const { start } = await createPlace();
  const first = await start();
  const { id } = await submit(first.world, 'a');
  await until(() => first.world.works.length === 1);
  await first.crash();
  const { world } = await start();
  expect((await world.builds.submit(specOf('a'), me)).build.id).toBe(id);
});

test('a build that ended before a restart is known after it', async () => {
  const { start } = await createPlace();
  const first = await start();
  const { id } = await submit(first.world, 'a');
  await until(() => first.world.works.length === 1);
  first.world.works[0]?.succeed();
  const done = await ending(first.world, id);
  await first.crash();
  const { world } = await start();
  expect(await ending(world, id)).toEqual(done);
  expect(await logOf(world, id, true)).toHaveLength(1);
  expect(world.works).toEqual([]);
});

test('a build that the service ended by itself with, again and again while it ran alone, is lost', async () => {
  const { start } = await createPlace({ policy: { maxStarts: 3 } });
  for (let crashes = 0; crashes < 3; crashes += 1) {
    const { world, crash } = await start({ endedByItself: crashes > 0 });
    if (crashes === 0) await submit(world, 'a');
    await until(() => world.works.length === 1);
    await world.builds.list({ limit: 1, status: 'running' });
    await crash();
  }
  const { world } = await start({ endedByItself: true });
  const [record] = await world.builds.list({ limit: 1 });
  expect(record).toMatchObject({ status: 'failed', failure: { kind: 'lost' }, starts: 3 });
  expect(world.ended).toEqual([record]);
  expect(world.works).toEqual([]);
  expect((await logOf(world, record?.id ?? '')).at(-1)?.text).toContain('failed (lost)');
});

test('builds that ran while the service was killed are not blamed, however often', async () => {
  const { start } = await createPlace({ policy: { maxStarts: 2 } });
  for (let kills = 0; kills < 6; kills += 1) {
    const { world, crash } = await start();
    if (kills === 0) for (const name of ['a', 'b']) await submit(world, name);
    await until(() => world.works.length === 2);
    await world.builds.list({ limit: 1, status: 'running' });
    await crash();
  }
  const { world } = await start();
  await until(() => world.works.length === 2);
  for (const work of world.works) work.succeed();
  await until(() => world.ended.length === 2);
  expect(world.ended.map(({ status, starts }) => [status, starts])).toEqual(Array(2).fill(['succeeded', 7]));
});

test('of builds that ran while the service ended by itself, each runs alone then, and the guilty one is found', async () => {
  const { start } = await createPlace({ policy: { concurrency: 3, maxStarts: 2 } });
  const specs = new Map<string, string>();
  const isGuilty = (world: World) => world.works.some(({ options }) => specs.get(options.id) === 'guilty');
  let endedByItself = false;
  let isDone = false;
  for (let starts = 0; !isDone; starts += 1) {
    expect(starts).toBeLessThan(10);
    const { world, crash } = await start({ endedByItself });
    if (starts === 0) {
      for (const name of ['innocent', 'guilty', 'other']) specs.set((await submit(world, name)).id, name);
      await until(() => world.works.length === 3);
    } else {
      // Whoever comes meanwhile waits.
      specs.set((await submit(world, `late ${starts}`)).id, 'late');
    }
    for (let ended = world.ended.length; !isDone && !(isGuilty(world) && starts > 0); ended = world.ended.length) {
      if (starts === 0) break;
      await until(() => world.works.some(({ isOver }) => !isOver) || world.ended.length > ended);
      if (isGuilty(world)) break;
      for (const work of world.works.filter(({ isOver }) => !isOver)) work.succeed();
      const all = await world.builds.list({ limit: 100 });
      isDone = all.every(({ endedAt }) => endedAt !== undefined);
    }
    if (isDone) break;
    if (starts > 0) expect(world.works.filter(({ isOver }) => !isOver)).toHaveLength(1);
    await crash();
    endedByItself = true;
  }
  const { world } = await start();
  const found = await world.builds.list({ limit: 100 });
  const outcomes = found.map(({ id, status, failure }) => [specs.get(id), status, failure?.kind]);
  expect(outcomes.filter(([, status]) => status !== 'succeeded')).toEqual([['guilty', 'failed', 'lost']]);
});

test('a stop is no crash and no failure, however often: builds go on', async () => {
  const { start } = await createPlace({ policy: { maxStarts: 2 } });
  for (let stops = 0; stops < 5; stops += 1) {
    const { world, store } = await start();
    if (stops === 0) await submit(world, 'a');
    await until(() => world.works.length === 1);
    const [record] = await world.builds.list({ limit: 1 });
    const waiting = ending(world, record?.id ?? '');
    const following = logOf(world, record?.id ?? '', true);
    await world.builds.close();
    expect(world.works[0]?.options.signal.aborted).toBe(true);
    expect(await waiting).toMatchObject({ status: 'running' });
    expect((await following).at(-1)?.text).toContain('resumes this build');
    expect(world.ended).toEqual([]);
    await store.close();
  }
  const { world } = await start();
  await until(() => world.works.length === 1);
  world.works[0]?.succeed();
  await until(() => world.ended.length === 1);
  expect(world.ended[0]).toMatchObject({ status: 'succeeded', starts: 6 });
});

test('a service that stops takes no builds', async () => {
  const { start } = await createPlace();
  const { world } = await start();
  await world.builds.close();
  await expect(submit(world, 'a')).rejects.toThrow('stopping');
});
