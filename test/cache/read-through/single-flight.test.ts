// Equal work, shared by those who wait for it.
import { expect, test } from 'vitest';
import { createSingleFlight } from '../../../src/cache/read-through/single-flight.ts';

interface Begun {
  readonly signal: AbortSignal;
  readonly end: (value: string) => void;
}

function createFixture() {
  const begun: Begun[] = [];
  const flight = createSingleFlight<string>();
  const work = (signal: AbortSignal) => {
    const { promise, resolve } = Promise.withResolvers<string>();
    begun.push({ signal, end: resolve });
    return promise;
  };
  return { begun, ask: (signal?: AbortSignal) => flight('key', work, signal) };
}

test('does equal work once, and the same work again when it has ended', async () => {
  const { begun, ask } = createFixture();
  const both = Promise.all([ask(), ask(new AbortController().signal)]);
  begun[0]?.end('a');
  expect(await both).toEqual(['a', 'a']);
  const next = ask();
  begun[1]?.end('b');
  expect(await next).toBe('b');
});

test('lets one who leaves go at once, and continues for the others', async () => {
  const { begun, ask } = createFixture();
  const leaver = new AbortController();
  const [left, stays] = [ask(leaver.signal), ask(new AbortController().signal)];
  leaver.abort(new Error('gone'));
  await expect(left).rejects.toThrow('gone');
  expect(begun[0]?.signal.aborted).toBe(false);
  begun[0]?.end('a');
  expect(await stays).toBe('a');
});

test('stops the work when all have left, and begins again for who comes then', async () => {
  const { begun, ask } = createFixture();
  const leavers = [new AbortController(), new AbortController()];
  const left = leavers.map(({ signal }) => ask(signal));
  for (const leaver of leavers) leaver.abort(new Error('gone'));
  for (const wait of left) await expect(wait).rejects.toThrow('gone');
  expect(begun[0]?.signal.aborted).toBe(true);
  const next = ask();
  expect(begun).toHaveLength(2);
  begun[0]?.end('late');
  begun[1]?.end('b');
  expect(await next).toBe('b');
});

test('never stops while one waits who cannot leave, and begins nothing for who has left before', async () => {
  const { begun, ask } = createFixture();
  await expect(ask(AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone');
  expect(begun).toEqual([]);
  const leaver = new AbortController();
  const stays = ask();
  const left = ask(leaver.signal);
  leaver.abort(new Error('gone'));
  await expect(left).rejects.toThrow('gone');
  expect(begun[0]?.signal.aborted).toBe(false);
  begun[0]?.end('a');
  expect(await stays).toBe('a');
});
