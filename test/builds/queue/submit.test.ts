// Asking for builds: one for equal specs, and no more than may wait.
import { expect, test } from 'vitest';
import { QueueFull } from '../../../src/builds/builds.ts';
import { BROKEN, built, createFixture, DIGEST, ending, me, specOf, submit, until } from './fixture.ts';

test('a build is queued, run, pushed and reported once', async () => {
  const fixture = await createFixture();
  const asked = await submit(fixture, 'a');
  expect(asked).toMatchObject({ image: expect.stringMatching(/^local.builds:/), caller: 'me', priority: 0 });
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.options.onBackend('buildkit');
  fixture.works[0]?.options.onBackend('buildkit');
  expect(await fixture.builds.find(asked.id)).toMatchObject({ status: 'running', starts: 1 });
  fixture.works[0]?.succeed();
  const done = await ending(fixture, asked.id);
  expect(done).toMatchObject({ status: 'succeeded', digest: DIGEST, starts: 1, backends: ['buildkit'] });
  expect(fixture.ended).toEqual([done]);
  expect(await fixture.builds.find(asked.id)).toEqual(done);
});

test('twenty who ask at the same time get one build', async () => {
  const fixture = await createFixture();
  const asked = await Promise.all(Array.from({ length: 20 }, () => submit(fixture, 'a')));
  expect(new Set(asked.map(({ id }) => id)).size).toBe(1);
  await until(() => fixture.works.length > 0);
  expect(fixture.works).toHaveLength(1);
});

test('what has succeeded is cached while its image is there, and built again when it is gone', async () => {
  const fixture = await createFixture();
  const first = await built(fixture, 'a');
  expect(await fixture.builds.submit(specOf('a'), me)).toEqual({ build: first, isCached: true });
  fixture.images.clear();
  const { build, isCached } = await fixture.builds.submit(specOf('a'), me);
  expect([build.id, isCached]).toEqual([first?.id.replace('_1', '_2'), false]);
});

test('a failed build is begun again, also by a retry, which gives what is under way', async () => {
  const fixture = await createFixture();
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.fail(BROKEN);
  await ending(fixture, id);
  const again = await fixture.builds.retry(id, me);
  expect(again?.id).toBe(id.replace('_1', '_2'));
  expect((await fixture.builds.retry(id, me))?.id).toBe(again?.id);
  expect(await fixture.builds.retry('bd-0123456789abcdef_1', me)).toBeUndefined();
});

test('pulls get a failure as long as it is remembered, and others a new build', async () => {
  let time = Date.UTC(2030, 0, 1);
  const fixture = await createFixture({ policy: { failureMemoryMs: 1000 }, now: () => new Date(time) });
  const pull = () => fixture.builds.submit(specOf('a'), { ...me, isShared: true });
  const { id } = (await pull()).build;
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.fail(BROKEN);
  const failed = await ending(fixture, id);
  expect(await pull()).toEqual({ build: failed, isCached: false });
  expect((await fixture.builds.retry(id, me))?.id).toBe(id.replace('_1', '_2'));
  await until(() => fixture.works.length === 2);
  fixture.works[1]?.fail(BROKEN);
  await ending(fixture, id.replace('_1', '_2'));
  expect((await submit(fixture, 'a')).id).toBe(id.replace('_1', '_3'));
  await until(() => fixture.works.length === 3);
  fixture.works[2]?.fail(BROKEN);
  await ending(fixture, id.replace('_1', '_3'));
  time += 1000;
  expect((await pull()).build.id).toBe(id.replace('_1', '_4'));
});

test('the tenth attempt comes after the ninth', async () => {
  const fixture = await createFixture();
  for (let attempt = 1; attempt <= 11; attempt += 1) {
    const { id } = await submit(fixture, 'a');
    expect(id).toMatch(new RegExp(`_${attempt}$`));
    await until(() => fixture.works.length === attempt);
    fixture.works.at(-1)?.fail(BROKEN);
    await ending(fixture, id);
  }
});

test('a preview says what would be, and changes nothing', async () => {
  const fixture = await createFixture();
  const { build } = await fixture.builds.preview(specOf('a'), me);
  expect(build).toMatchObject({ id: expect.stringMatching(/_1$/), status: 'queued' });
  expect(await fixture.builds.find(build.id)).toBeUndefined();
  expect(await fixture.builds.list({ limit: 10 })).toEqual([]);
  const done = await built(fixture, 'a');
  expect(await fixture.builds.preview(specOf('a'), me)).toEqual({ build: done, isCached: true });
});

test('runs no more than the limit, and refuses more than may wait', async () => {
  const fixture = await createFixture({ policy: { concurrency: 2, maxQueued: 3, maxQueuedPerCaller: 2 } });
  const ask = (name: string, caller: string) => submit(fixture, name, { caller });
  for (const name of ['a', 'b', 'c', 'd']) await ask(name, 'one');
  await expect(ask('e', 'one')).rejects.toThrow(/2 builds of yours are queued already.*try again/);
  await ask('f', 'two');
  await expect(ask('g', 'three')).rejects.toThrow(QueueFull);
  await until(() => fixture.works.length >= 2);
  expect(fixture.works).toHaveLength(2);
  expect((await ask('a', 'three')).image).toBe(fixture.works[0]?.options.image);
});

test('many who ask at the same time do not get past the bound', async () => {
  const fixture = await createFixture({ policy: { concurrency: 2, maxQueued: 3 } });
  const asked = await Promise.allSettled(Array.from({ length: 20 }, (_, n) => submit(fixture, `image-${n}`)));
  expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(5);
});

test('one who asks for what waits already makes it as urgent as it is to him', async () => {
  const fixture = await createFixture({ policy: { concurrency: 1 } });
  for (const name of ['a', 'b', 'c']) await submit(fixture, name);
  const raised = await submit(fixture, 'c', { priority: 5 });
  await submit(fixture, 'c', { priority: 1 });
  expect((await fixture.builds.find(raised.id))?.priority).toBe(5);
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.succeed();
  await until(() => fixture.works.length === 2);
  expect(fixture.works[1]?.options.id).toBe(raised.id);
});

test('anyone who has a name gets a place in the line, and is served, whatever those without one ask for', async () => {
  const fixture = await createFixture({ policy: { concurrency: 2, maxQueued: 10, limitsAnonymous: true } });
  const stranger = { caller: '', priority: 0 };
  const asked = await Promise.allSettled(
    Array.from({ length: 30 }, (_, i) => fixture.builds.submit(specOf(`stranger-${i}`), stranger)),
  );
  const refused = asked.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []));
  expect(refused.length).toBeGreaterThan(20);
  expect(refused[0]).toBeInstanceOf(QueueFull);
  expect(refused[0]).toMatchObject({ message: expect.stringContaining('half of builds.queue.max') });
  await until(() => fixture.works.length === 1);
  await submit(fixture, 'known');
  await until(() => fixture.works.length === 2);
  expect(fixture.works[1]?.spec).toEqual(specOf('known'));
});
