// A body that nobody keeps is verified all the same, and cancelled with its reader.
import { expect, test } from 'vitest';
import { passThrough } from '../../../src/cache/read-through/transfers.ts';
import { digestOf } from '../../../src/oci/digest.ts';
import { ContentMismatch } from '../../../src/oci/verify.ts';

const bytes = Buffer.from('0123456789');
const expected = { digest: digestOf(bytes), size: bytes.length };

test.each([
  ['the whole', undefined, '0123456789'],
  ['the first byte', { start: 0, end: 0 }, '0'],
  ['a part across chunks', { start: 2, end: 6 }, '23456'],
  ['the last byte', { start: 9, end: 9 }, '9'],
])('gives %s', async (_, range, text) => {
  expect(await new Response(passThrough(bodyOf(bytes), expected, { range })).text()).toBe(text);
});

test.each([
  ['of another digest', Buffer.from('0123456780')],
  ['that is too short', bytes.subarray(0, -1)],
  ['that is too long', Buffer.from('0123456789a')],
])('holds back the end of a body %s', async (_, lie) => {
  for (const range of [undefined, { start: 0, end: 1 }]) {
    let received = 0;
    const read = async () => {
      for await (const chunk of passThrough(bodyOf(lie), expected, { range })) received += chunk.byteLength;
    };
    await expect(read()).rejects.toBeInstanceOf(ContentMismatch);
    expect(received).toBeLessThan(range ? 2 : lie.length);
  }
});

test('cancels the body when its reader leaves', async () => {
  const cancelled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({ cancel: () => cancelled.resolve() });
  await passThrough(body, expected).cancel();
  await cancelled.promise;
});

/** In chunks of three bytes. */
function bodyOf(raw: Uint8Array): ReadableStream<Uint8Array> {
  const starts = Array.from({ length: Math.ceil(raw.length / 3) }, (_, at) => at * 3);
  return ReadableStream.from(starts.map(start => raw.subarray(start, start + 3)));
}
