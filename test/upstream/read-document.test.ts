// Documents that are read whole: few large ones at once, however many come.
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createReadDocument } from '../../src/upstream/transport/request.ts';

const KIB = 1024;

test('has few large documents in memory at once, and small ones pass them by', async () => {
  const readDocument = createReadDocument();
  const rests = Array.from({ length: 10 }, () => Promise.withResolvers<void>());
  const begun = new Set<number>();
  const reads = rests.map(({ promise }, at) =>
    readDocument(
      (async function* () {
        yield new Uint8Array(600 * KIB);
        begun.add(at);
        await promise;
        yield new Uint8Array(KIB);
      })(),
    ),
  );
  const small = readDocument(ReadableStream.from([new Uint8Array(KIB)]));
  expect((await small).byteLength).toBe(KIB);
  for (let turns = 0; turns < 10; turns += 1) await setImmediate();
  expect([...begun]).toEqual([0, 1]);
  for (const { resolve } of rests) resolve();
  expect((await Promise.all(reads)).map(({ byteLength }) => byteLength)).toEqual(rests.map(() => 601 * KIB));
});

test('gives the turn of a document that breaks to the next', async () => {
  const readDocument = createReadDocument();
  const broken = Array.from({ length: 5 }, () =>
    readDocument(
      (async function* () {
        yield new Uint8Array(600 * KIB);
        throw new Error('broken');
      })(),
    ),
  );
  expect((await Promise.allSettled(broken)).map(({ status }) => status)).toEqual(broken.map(() => 'rejected'));
  expect((await readDocument(ReadableStream.from([new Uint8Array(900 * KIB)]))).byteLength).toBe(900 * KIB);
});
