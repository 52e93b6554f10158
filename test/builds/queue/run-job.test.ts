// Builds while they run, and how they end.
import { expect, test } from 'vitest';
import { BuildFailure } from '../../../src/builds/execution.ts';
import { createMemoryStore } from '../../support/memory-records.ts';
import { BROKEN, built, createFixture, ending, logOf, me, pass, specOf, submit, until } from './fixture.ts';

const unreachable = new BuildFailure({ kind: 'infrastructure', reason: 'no builder answers' });

test('a failure says in one line which platform and step failed, without secrets, and ends the log', async () => {
  const fixture = await createFixture();
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.options.report({ kind: 'output', text: 'token hunter2' });
  fixture.works[0]?.fail(
    new BuildFailure({ kind: 'build', reason: 'bad\n password hunter2', platform: 'linux/arm64', step: 'RUN make' }),
  );
  expect((await ending(fixture, id))?.failure).toMatchObject({ kind: 'build', reason: 'bad password ***' });
  expect((await logOf(fixture, id)).map(({ text }) => text)).toEqual([
    'token ***',
    'failed (build): linux/arm64, RUN make: bad password ***',
  ]);
  expect(fixture.lines.join('')).not.toContain('hunter2');
  expect(fixture.lines.join('')).toContain('build ended');
});

test('only what failed by infrastructure is tried again, with growing waits', async () => {
  const fixture = await createFixture();
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.fail(unreachable);
  await pass(fixture, 2000);
  await until(() => fixture.works.length === 2);
  fixture.works[1]?.fail(unreachable);
  await pass(fixture, 4000);
  await until(() => fixture.works.length === 3);
  fixture.works[2]?.fail(unreachable);
  expect(await ending(fixture, id)).toMatchObject({ status: 'failed', failure: { kind: 'infrastructure' }, starts: 3 });
  const notes = (await logOf(fixture, id)).map(({ text }) => text);
  expect(notes[0]).toBe('no builder answers: retry 1 of 2 in 2 s');
  expect(notes[1]).toBe('no builder answers: retry 2 of 2 in 4 s');
});

test.each([
  ['a fault of the Containerfile', BROKEN],
  ['an unforeseen fault', new TypeError('x is not a function')],
])('%s is not tried again', async (_, error) => {
  const fixture = await createFixture();
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.fail(error);
  expect(await ending(fixture, id)).toMatchObject({ status: 'failed', starts: 1 });
  expect(JSON.stringify(await fixture.builds.find(id))).not.toContain('function');
});

test('a build that takes too long is stopped, and says how long it had', async () => {
  const fixture = await createFixture();
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  await pass(fixture, 900_000);
  const failure = { kind: 'timeout', reason: 'not finished after 900 s' };
  expect((await ending(fixture, id))?.failure).toEqual(failure);
  expect(fixture.works[0]?.options.signal.aborted).toBe(true);
});

test('the time of a build is for all its tries', async () => {
  const fixture = await createFixture();
  const { build } = await fixture.builds.submit(specOf('a', { timeoutMs: 5000 }), me);
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.fail(unreachable);
  await until(() => [...fixture.timers].some(({ ms }) => ms === 2000));
  await pass(fixture, 5000);
  expect((await ending(fixture, build.id))?.failure?.kind).toBe('timeout');
});

test('an executor that does not stop is abandoned: its slot is free, and its reports are ignored', async () => {
  const fixture = await createFixture({ policy: { concurrency: 1, graceMs: 700 }, isDeaf: true });
  const { id } = await submit(fixture, 'a');
  const next = await submit(fixture, 'b');
  await until(() => fixture.works.length === 1);
  await pass(fixture, 900_000);
  await pass(fixture, 700);
  const ended = await ending(fixture, id);
  expect(ended?.failure?.kind).toBe('timeout');
  await until(() => fixture.works.length === 2);
  fixture.works[0]?.options.report({ kind: 'output', text: 'late' });
  fixture.works[0]?.options.onBackend('late');
  fixture.works[0]?.succeed();
  expect(fixture.works[1]?.options.id).toBe(next.id);
  expect(await fixture.builds.find(id)).toEqual(ended);
  expect(JSON.stringify(await logOf(fixture, id))).not.toContain('late');
  expect(fixture.lines.join()).toContain('is abandoned');
  expect(fixture.lines.join()).not.toContain('cannot be written');
});

test('cancels what waits at once, and what runs when it has stopped', async () => {
  const fixture = await createFixture({ policy: { concurrency: 1 } });
  const running = await submit(fixture, 'a');
  const waiting = await submit(fixture, 'b');
  await until(() => fixture.works.length === 1);
  const cancelled = { status: 'failed', failure: { kind: 'cancelled' } };
  expect(await fixture.builds.cancel(waiting.id)).toMatchObject({ ...cancelled, starts: 0 });
  expect(await fixture.builds.cancel(running.id)).toMatchObject({ ...cancelled, starts: 1 });
  expect(await fixture.builds.cancel('bd-0123456789abcdef_1')).toBeUndefined();
  expect(fixture.ended).toHaveLength(2);
  expect(fixture.works).toHaveLength(1);
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
  const fixture = await createFixture({ records: { ...store, write } });
  const { build } = await fixture.builds.preview(specOf('a'), me);
  const submitting = submit(fixture, 'a');
  await until(() => isWriting);
  const cancelling = fixture.builds.cancel(build.id);
  gate.resolve();
  await submitting;
  expect(await cancelling).toMatchObject({ failure: { kind: 'cancelled' }, starts: 0 });
  expect(fixture.works).toEqual([]);
});

test('a build that has ended stays as it was when it is cancelled', async () => {
  const fixture = await createFixture();
  const done = await built(fixture, 'a');
  expect(await fixture.builds.cancel(done?.id ?? '')).toEqual(done);
});

test('a build that succeeds although it was cancelled has succeeded', async () => {
  const fixture = await createFixture({ isDeaf: true });
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  const cancelling = fixture.builds.cancel(id);
  fixture.works[0]?.succeed();
  expect(await cancelling).toMatchObject({ status: 'succeeded' });
});
