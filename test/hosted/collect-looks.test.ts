// What clients asked for of late, and removals that do not cross them.
import { expect, test } from 'vitest';
import { createLooks } from '../../src/hosted/collect-looks.ts';

const START = Date.UTC(2030, 0, 1);
const EARLIER = new Date(START - 1).toISOString();
let time = START;
const now = () => new Date(time);

test('a look is remembered with its time', async () => {
  const looks = createLooks(now);
  await looks.look('a');
  expect(looks.isSeenAfter('a', EARLIER)).toBe(true);
  expect(looks.isSeenAfter('a', now().toISOString())).toBe(false);
  expect(looks.isSeenAfter('b', EARLIER)).toBe(false);
  time += 5;
  await looks.look('a');
  expect(looks.isSeenAfter('a', new Date(time - 1).toISOString())).toBe(true);
});

test('what was seen is not removed', async () => {
  const looks = createLooks(now);
  await looks.look('a');
  expect(await looks.removeUnseen('a', EARLIER, () => expect.unreachable())).toBe(false);
});

test('who looks during a removal waits for its end', async () => {
  const looks = createLooks(now);
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const removing = looks.removeUnseen('a', EARLIER, async () => {
    await gate.promise;
    order.push('removed');
  });
  const looking = looks.look('a').then(() => order.push('looked'));
  await looks.look('b');
  gate.resolve();
  await Promise.all([removing, looking]);
  expect(order).toEqual(['removed', 'looked']);
});

test('a removal that fails is for who removes, and holds up nobody', async () => {
  const looks = createLooks(now);
  const removing = looks.removeUnseen('a', EARLIER, () => Promise.reject(new Error('a disk of tears')));
  await Promise.all([looks.look('a'), expect(removing).rejects.toThrow('a disk of tears')]);
  await looks.look('a');
});

test('remembers the last of very many', async () => {
  const looks = createLooks(now);
  for (let i = 0; i <= 50_000; i++) await looks.look(`${i}`);
  expect(looks.isSeenAfter('0', EARLIER)).toBe(false);
  expect(looks.isSeenAfter('1', EARLIER)).toBe(true);
});
