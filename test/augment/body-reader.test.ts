// Bodies are read to their end or cancelled, whenever the signal aborts.
import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { drainBody } from '../../src/augment/body-reader.ts';

function createBody(chunks: readonly (Uint8Array | Error)[]) {
  const cancelled: unknown[] = [];
  const left = [...chunks];
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const next = left.shift();
        if (next instanceof Error) controller.error(next);
        else if (next) controller.enqueue(next);
        else return new Promise(() => {});
      },
      cancel: reason => void cancelled.push(reason),
    },
    { highWaterMark: 0 },
  );
  return { body, cancelled };
}

const STOPPED = new Error('stopped');

test.each<[string, (stop: AbortController) => void]>([
  ['before it is read', stop => stop.abort(STOPPED)],
  ['while the sender is silent', stop => setImmediate(() => stop.abort(STOPPED))],
])('a body is cancelled where the signal aborts %s', async (_, abort) => {
  const { body, cancelled } = createBody([new Uint8Array(3)]);
  const stop = new AbortController();
  abort(stop);
  await expect(drainBody(body, stop.signal)).rejects.toBe(STOPPED);
  expect(cancelled).toEqual([STOPPED]);
});

test('a body that breaks leaves nothing on the signal', async () => {
  const { body } = createBody([new Uint8Array(3), new Error('broken')]);
  const { signal } = new AbortController();
  await expect(drainBody(body, signal)).rejects.toThrow('broken');
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});
