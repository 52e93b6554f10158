// Asking for builds: one for equal specs, and no more than may wait.
import { expect, test } from 'vitest';
import { QueueFull } from '../../../src/builds/builds.ts';
import { BROKEN, built, createWorld, DIGEST, ending, me, specOf, submit, until } from './fixture.ts';

test('a build is queued, run, pushed and told of once', async () => {
  const world = await createWorld();
  const asked = await submit(world, 'a');
  expect(asked).toMatchObject({ image: expect.stringMatching(/^local.builds:/), caller: 'me', priority: 0 });
  await until(() => world.works.length === 1);
  world.works[0]?.options.onBackend('buildkit');
  world.works[0]?.options.onBackend('buildkit');
  expect(await world.builds.find(asked.id)).toMatchObject({ status: 'running', starts: 1 });
  world.works[0]?.succeed();
  const done = await ending(world, asked.id);
  expect(done).toMatchObject({ status: 'succeeded', digest: DIGEST, starts: 1, backends: ['buildkit'] });
  expect(world.ended).toEqual([done]);
  expect(await world.builds.find(asked.id)).toEqual(done);
});

test('twenty who ask at the same time get one build', async () => {
  const world = await createWorld();
  const asked = await Promise.all(Array.from({ length: 20 }, () => submit(world, 'a')));
  expect(new Set(asked.map(({ id }) => id)).size).toBe(1);
  await until(() => world.works.length > 0);
  expect(world.works).toHaveLength(1);
});

test('what has succeeded is cached while its image is there, and built again when it is gone', async () => {
  const world = await createWorld();
  const first = await built(world, 'a');
  expect(await world.builds.submit(specOf('a'), me)).toEqual({ build: first, isCached: true });
  world.images.clear();
  const { build, isCached } = await world.builds.submit(specOf('a'), me);
  expect([build.id, isCached]).toEqual([first?.id.replace('_1', '_2'), false]);
});

test('a failed build is begun anew, also by a retry, which gives what is under way', async () => {
  const world = await createWorld();
  const { id } = await submit(world, 'a');
  await until(() => world.works.length === 1);
  world.works[0]?.fail(BROKEN);
  await ending(world, id);
  const again = await world.builds.retry(id, me);
  expect(again?.id).toBe(id.replace('_1', '_2'));
  expect((await world.builds.retry(id, me))?.id).toBe(again?.id);
  expect(await world.builds.retry('bd-0123456789abcdef_1', me)).toBeUndefined();
});

test('a failure is remembered as long as is asked for, but not by a retry', async () => {
  let time = Date.UTC(2030, 0, 1);
  const world = await createWorld({ policy: { failureMemoryMs: 1000 }, now: () => new Date(time) });
  const { id } = await submit(world, 'a');
  await until(() => world.works.length === 1);
  world.works[0]?.fail(BROKEN);
  const failed = await ending(world, id);
  expect(await world.builds.submit(specOf('a'), me)).toEqual({ build: failed, isCached: false });
  expect((await world.builds.retry(id, me))?.id).toBe(id.replace('_1', '_2'));
  await until(() => world.works.length === 2);
  world.works[1]?.fail(BROKEN);
  await ending(world, id.replace('_1', '_2'));
  time += 1000;
  expect((await submit(world, 'a')).id).toBe(id.replace('_1', '_3'));
});

test('the tenth attempt comes after the ninth', async () => {
  const world = await createWorld();
  for (let attempt = 1; attempt <= 11; attempt += 1) {
    const { id } = await submit(world, 'a');
    expect(id).toMatch(new RegExp(`_${attempt}$`));
    await until(() => world.works.length === attempt);
    world.works.at(-1)?.fail(BROKEN);
    await ending(world, id);
  }
});

test('a preview says what would be, and changes nothing', async () => {
  const world = await createWorld();
  const { build } = await world.builds.preview(specOf('a'), me);
  expect(build).toMatchObject({ id: expect.stringMatching(/_1$/), status: 'queued' });
  expect(await world.builds.find(build.id)).toBeUndefined();
  expect(await world.builds.list({ limit: 10 })).toEqual([]);
  const done = await built(world, 'a');
  expect(await world.builds.preview(specOf('a'), me)).toEqual({ build: done, isCached: true });
});

test('runs no more than the limit, and refuses more than may wait', async () => {
  const world = await createWorld({ policy: { concurrency: 2, maxQueued: 3, maxQueuedPerCaller: 2 } });
  const ask = (name: string, caller: string) => submit(world, name, { caller });
  for (const name of ['a', 'b', 'c', 'd']) await ask(name, 'one');
  await expect(ask('e', 'one')).rejects.toThrow(/2 builds of yours are queued already.*try again/);
  await ask('f', 'two');
  await expect(ask('g', 'three')).rejects.toThrow(QueueFull);
  await until(() => world.works.length >= 2);
  expect(world.works).toHaveLength(2);
  expect((await ask('a', 'three')).image).toBe(world.works[0]?.options.image);
});

test('many who ask at the same time do not get past the bound', async () => {
  const world = await createWorld({ policy: { concurrency: 2, maxQueued: 3 } });
  const asked = await Promise.allSettled(Array.from({ length: 20 }, (_, n) => submit(world, `image-${n}`)));
  expect(asked.filter(({ status }) => status === 'fulfilled')).toHaveLength(5);
});

test('one who asks for what waits already makes it as urgent as it is to him', async () => {
  const world = await createWorld({ policy: { concurrency: 1 } });
  for (const name of ['a', 'b', 'c']) await submit(world, name);
  const raised = await submit(world, 'c', { priority: 5 });
  await submit(world, 'c', { priority: 1 });
  expect((await world.builds.find(raised.id))?.priority).toBe(5);
  await until(() => world.works.length === 1);
  world.works[0]?.succeed();
  await until(() => world.works.length === 2);
  expect(world.works[1]?.options.id).toBe(raised.id);
});

test('whoever has a name gets a place in the line, and is served, whatever those without one ask for', async () => {
  const world = await createWorld({ policy: { concurrency: 2, maxQueued: 10, limitsAnonymous: true } });
  const stranger = { caller: '', priority: 0 };
  const asked = await Promise.allSettled(
    Array.from({ length: 30 }, (_, i) => world.builds.submit(specOf(`stranger-${i}`), stranger)),
  );
  const refused = asked.flatMap(outcome => (outcome.status === 'rejected' ? [outcome.reason] : []));
  expect(refused.length).toBeGreaterThan(20);
  expect(refused[0]).toBeInstanceOf(QueueFull);
  expect(refused[0]).toMatchObject({ message: expect.stringContaining('half of builds.queue.max') });
  await until(() => world.works.length === 1);
  await submit(world, 'known');
  await until(() => world.works.length === 2);
  expect(world.works[1]?.spec).toEqual(specOf('known'));
});
