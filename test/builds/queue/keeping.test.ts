// What is kept of builds, and those who wait for it.
import { readdir, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RecordStoreFull } from '../../../src/state/store.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { built, createFixture, DIGEST, ending, logOf, me, pass, specOf, submit, until } from './fixture.ts';

/** A store that can be full. */
function createFullStore() {
  const store = createMemoryStore();
  let isFull = false;
  const write: typeof store.write = async changes => {
    if (isFull) throw new RecordStoreFull('full');
    await store.write(changes);
  };
  const setFull = (next: boolean) => {
    isFull = next;
  };
  return { records: { ...store, write }, setFull };
}

test('ten thousand wait, half of them leave, and the end of the rest is reported', async () => {
  const fixture = await createFixture();
  const { id } = await submit(fixture, 'a');
  const leaving = new AbortController();
  const wait = (signal: AbortSignal) =>
    Promise.allSettled(Array.from({ length: 5000 }, () => fixture.builds.wait(id, signal)));
  const [left, stayed] = [wait(leaving.signal), wait(new AbortController().signal)];
  await until(() => fixture.works.length === 1);
  leaving.abort(new Error('gone'));
  expect((await left).every(({ status }) => status === 'rejected')).toBe(true);
  fixture.works[0]?.succeed();
  expect((await stayed).every(({ status }) => status === 'fulfilled')).toBe(true);
});

test('nobody waits for what is unknown', async () => {
  const fixture = await createFixture();
  expect(await ending(fixture, 'bd-0123456789abcdef_1')).toBeUndefined();
  expect(await fixture.builds.find('../../etc/passwd')).toBeUndefined();
  const options = { follow: true, signal: new AbortController().signal };
  expect(await fixture.builds.openLog('../../etc/passwd', options)).toBeUndefined();
});

test('lists the newest first, by status, and page by page', async () => {
  const fixture = await createFixture({ policy: { concurrency: 1 }, now: () => new Date('2030-01-01T00:00:00Z') });
  const ids: string[] = [];
  for (const name of ['a', 'b', 'c', 'd']) ids.unshift((await submit(fixture, name)).id);
  await until(() => fixture.works.length === 1);
  const list = async (page: object) => (await fixture.builds.list({ limit: 10, ...page })).map(({ id }) => id);
  expect(await list({})).toEqual(ids);
  expect(await list({ limit: 2 })).toEqual(ids.slice(0, 2));
  expect(await list({ limit: 2, after: ids[1] })).toEqual(ids.slice(2));
  expect(await list({ status: 'running' })).toEqual(ids.slice(3));
  expect(await list({ status: 'queued', after: ids[0] })).toEqual(ids.slice(1, 3));
  expect(await list({ after: 'bd-0123456789abcdef_1' })).toEqual([]);
});

test('follows a log from before the build begins to its last line', async () => {
  const fixture = await createFixture({ policy: { concurrency: 1 } });
  await submit(fixture, 'a');
  const { id } = await submit(fixture, 'b');
  const following = logOf(fixture, id, true);
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.succeed();
  await until(() => fixture.works.length === 2);
  fixture.works[1]?.options.report({ kind: 'output', text: 'one' });
  fixture.works[1]?.succeed();
  expect((await following).map(({ text }) => text)).toEqual(['one', expect.stringContaining(`@${DIGEST}`)]);
});

test('records and logs go when their time has come, and no others', async () => {
  let time = Date.UTC(2030, 0, 1);
  const fixture = await createFixture({ policy: { keepMs: 1000 }, now: () => new Date(time) });
  const old = await built(fixture, 'a');
  time += 999;
  const young = await built(fixture, 'b');
  await fixture.builds.sweep();
  expect(await fixture.builds.find(old?.id ?? '')).toEqual(old);
  time += 1;
  await fixture.builds.sweep();
  expect(await fixture.builds.find(old?.id ?? '')).toBeUndefined();
  expect(await readdir(fixture.directory)).toEqual([`${young?.id}.log`]);
  expect(await fixture.builds.list({ limit: 10 })).toEqual([young]);
});

test('a log whose record is lost stays for an hour after its last line, and its number is not given again', async () => {
  const before = await createFixture();
  const lost = await built(before, 'a');
  const log = `${lost?.id}.log`;
  const fixture = await createFixture({ directory: before.directory });
  await fixture.builds.sweep();
  expect((await submit(fixture, 'a')).id).toBe(lost?.id.replace(/_1$/, '_2'));
  expect(await readdir(fixture.directory)).toContain(log);
  const time = new Date(Date.now() - 3_600_000);
  await utimes(join(fixture.directory, log), time, time);
  await fixture.builds.sweep();
  expect(await readdir(fixture.directory)).not.toContain(log);
});

test('a record that cannot be written is an error to who asks, and nothing is left of it', async () => {
  const { records, setFull } = createFullStore();
  setFull(true);
  const fixture = await createFixture({ records });
  await expect(submit(fixture, 'a')).rejects.toThrow('full');
  expect(await fixture.builds.list({ limit: 1 })).toEqual([]);
  setFull(false);
  await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
});

test('an end that cannot be stored holds up nobody, and is stored and reported once when that is possible', async () => {
  const { records, setFull } = createFullStore();
  const fixture = await createFixture({ records });
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  setFull(true);
  fixture.works[0]?.succeed();
  expect(await ending(fixture, id)).toMatchObject({ status: 'succeeded' });
  expect((await fixture.builds.submit(specOf('a'), me)).isCached).toBe(true);
  await pass(fixture, 1000);
  await until(() => [...fixture.timers].some(({ ms }) => ms === 2000));
  expect(fixture.ended).toEqual([]);
  setFull(false);
  await pass(fixture, 2000);
  await until(() => fixture.ended.length > 0);
  expect(await fixture.builds.list({ limit: 1 })).toEqual(fixture.ended);
});

test('a context is needed for as long as a build of it is kept', async () => {
  let time = Date.UTC(2030, 0, 1);
  const asked: boolean[] = [];
  const fixture = await createFixture({
    policy: { keepMs: 1000 },
    now: () => new Date(time),
    sweepContexts: async isNeeded => void asked.push(await isNeeded(DIGEST)),
  });
  await fixture.builds.sweep();
  const { build } = await fixture.builds.submit(specOf('a', { context: { digest: DIGEST, size: 1 } }), me);
  await fixture.builds.sweep();
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.succeed();
  await ending(fixture, build.id);
  time += 999;
  await fixture.builds.sweep();
  time += 1;
  await fixture.builds.sweep();
  expect(asked).toEqual([false, true, true, false]);
});
