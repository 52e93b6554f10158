// The indexes of layers, read for those who wait for them.
import { expect, test } from 'vitest';
import { createMemory } from '../../src/memory.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { createLayerIndexes } from '../../src/pull/layers/layer-indexes.ts';
import { makeTar } from '../support/app.ts';
import { createMemoryStore } from '../support/memory-records.ts';
import { INDEX_LIMITS } from '../support/placing.ts';

const memory = createMemory();

const tar = await makeTar('opt/hello', 'hi');
const digest = digestOf(tar);

test('a layer that nobody waits for any more is read no further, and again for who comes then', async () => {
  const indexes = createLayerIndexes({
    memory,
    records: createMemoryStore(),
    now: () => new Date(),
    limits: INDEX_LIMITS,
  });
  let cancelled: unknown;
  const stalling = new ReadableStream<Uint8Array>({
    start: controller => controller.enqueue(tar.subarray(0, 600)),
    cancel: reason => {
      cancelled = reason;
    },
  });
  const opened = [stalling, ReadableStream.from([new Uint8Array(tar)])];
  const open = async () => opened.shift() ?? new ReadableStream();
  const leavers = [new AbortController(), new AbortController()];
  const waits = leavers.map(({ signal }) => indexes.get({ digest, location: 'lab/app', open }, signal));
  leavers[0]?.abort(new Error('gone'));
  await expect(waits[0]).rejects.toThrow('gone');
  expect([cancelled, opened.length]).toEqual([undefined, 1]);
  leavers[1]?.abort(new Error('gone, too'));
  await expect(waits[1]).rejects.toThrow('gone, too');
  expect(await indexes.get({ digest, location: 'lab/app', open })).toEqual({ coded: expect.any(Uint8Array) });
  expect(cancelled).toEqual(new Error('gone, too'));
});
