// Builds while they run, and how they end.
import { expect, test } from 'vitest';
import { BuildFailure } from '../../../src/builds/execution.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { BROKEN, built, createWorld, ending, logOf, me, pass, specOf, submit, until } from './fixture.ts';

const unreachable = new BuildFailure({ kind: 'infrastructure', reason: 'no builder answers' });

test('a failure says in one line which platform and step failed, without secrets, and ends the log', async () => {
  const world = await createWorld();
  const { id } = await submit(world, 'a');
  await until(() => world.works.length === 1);
  world.works[0]?.options.report({ kind: 'output', text: 'token hunter2' });
  world.works[0]?.fail(
    new BuildFailure({ kind: 'build', reason: 'bad\n password hunter2', platform: 'linux/arm64', step: 'RUN make' }),
  );
  expect((await ending(world, id))?.failure).toMatchObject({ kind: 'build', reason: 'bad password ***' });
  expect((await logOf(world, id)).map(({ text }) => text)).toEqual([
    'token ***',
    'failed (build): linux/arm64, RUN make: bad password ***',
  ]);
  expect(world.lines.join('')).not.toContain('hunter2');
  expect(world.lines.join('')).toContain('build ended');
});

test('only what failed by infrastructure is tried again, with growing waits', async () => {
  const world = await createWorld();
  const { id } = await submit(world, 'a');
  await until(() => world.works.length === 1);
  world.works[0]?.fail(unreachable);
  await pass(world, 2000);
  await until(() => world.works.length === 2);
  world.works[1]?.fail(unreachable);
  await pass(world, 4000);
  await until(() => world.works.length === 3);
  world.works[2]?.fail(unreachable);
  expect(await ending(world, id)).toMatchObject({ status: 'failed', failure: { kind: 'infrastructure' }, starts: 3 });
  const notes = (await logOf(world, id)).map(({ text }) => text);
  expect(notes[0]).toBe('no builder answers: retry 1 of 2 in 2 s');
  expect(notes[1]).toBe('no builder answers: retry 2 of 2 in 4 s');
});

test.each([
  ['a fault of the Containerfile', BROKEN],
  ['an unforeseen fault', new TypeError('x is not a function')],
])('%s is not tried again', async (_, error) => {
  const world = await createWorld();
  const { id } = await submit(world, 'a');
  await until(() => world.works.length === 1);
  world.works[0]?.fail(error);
  expect(await ending(world, id)).toMatchObject({ status: 'failed', starts: 1 });
  expect(JSON.stringify(await world.builds.find(id))).not.toContain('function');
});

test('a build that takes too long is stopped, and says how long it had', async () => {
  const world = await createWorld();
  const { id } = await submit(world, 'a');
  await until(() => world.works.length === 1);
  await pass(world, 900_000);
  const failure = { kind: 'timeout', reason: 'not finished after 900 s' };
  expect((await ending(world, id))?.failure).toEqual(failure);
  expect(world.works[0]?.options.signal.aborted).toBe(true);
});

test('the time of a build is for all its tries', async () => {
  const world = await createWorld();
  const { build } = await world.builds.submit(specOf('a', { timeoutMs: 5000 }), me);
  await until(() => world.works.length === 1);
  world.works[0]?.fail(unreachable);
  await until(() => [...world.timers].some(({ ms }) => ms === 2000));
  await pass(world, 5000);
  expect((await ending(world, build.id))?.failure?.kind).toBe('timeout');
});

test('an executor that does not stop is abandoned: its slot is free, and its reports are ignored', async () => {
  const world = await createWorld({ policy: { concurrency: 1, graceMs: 700 }, isDeaf: true });
  const { id } = await submit(world, 'a');
  const next = await submit(world, 'b');
  await until(() => world.works.length === 1);
  await pass(world, 900_000);
  await pass(world, 700);
  const ended = await ending(world, id);
  expect(ended?.failure?.kind).toBe('timeout');
  await until(() => world.works.length === 2);
  world.works[0]?.options.report({ kind: 'output', text: 'late' });
  world.works[0]?.options.onBackend('late');
  world.works[0]?.succeed();
  expect(world.works[1]?.options.id).toBe(next.id);
  expect(await world.builds.find(id)).toEqual(ended);
  expect(JSON.stringify(await logOf(world, id))).not.toContain('late');
  expect(world.lines.join()).toContain('is abandoned');
  expect(world.lines.join()).not.toContain('cannot be written');
});

test('cancels what waits at once, and what runs when it has stopped', async () => {
  const world = await createWorld({ policy: { concurrency: 1 } });
  const running = await submit(world, 'a');
  const waiting = await submit(world, 'b');
  await until(() => world.works.length === 1);
  const cancelled = { status: 'failed', failure: { kind: 'cancelled' } };
  expect(await world.builds.cancel(waiting.id)).toMatchObject({ ...cancelled, starts: 0 });
  expect(await world.builds.cancel(running.id)).toMatchObject({ ...cancelled, starts: 1 });
  expect(await world.builds.cancel('bd-0123456789abcdef_1')).toBeUndefined();
  expect(world.ended).toHaveLength(2);
  expect(world.works).toHaveLength(1);
});

test('a build that is cancelled while its record is on the way is never begun', async () => {
  const store = createMemoryStore();
  const gate = Promise.withResolvers<void>();
  let isWriting = false;
  const write: typeof store.write = async changes => {
    isWriting = true;
    await gate.promise;
    await store.write(changes);
  };
  const world = await createWorld({ records: { ...store, write } });
  const { build } = await world.builds.preview(specOf('a'), me);
  const submitting = submit(world, 'a');
  await until(() => isWriting);
  const cancelling = world.builds.cancel(build.id);
  gate.resolve();
  await submitting;
  expect(await cancelling).toMatchObject({ failure: { kind: 'cancelled' }, starts: 0 });
  expect(world.works).toEqual([]);
});

test('a build that has ended stays as it was when it is cancelled', async () => {
  const world = await createWorld();
  const done = await built(world, 'a');
  expect(await world.builds.cancel(done?.id ?? '')).toEqual(done);
});

test('a build that succeeds although it was cancelled has succeeded', async () => {
  const world = await createWorld({ isDeaf: true });
  const { id } = await submit(world, 'a');
  await until(() => world.works.length === 1);
  const cancelling = world.builds.cancel(id);
  world.works[0]?.succeed();
  expect(await cancelling).toMatchObject({ status: 'succeeded' });
});
