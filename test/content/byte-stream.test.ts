// Byte streams for both kinds of reader, and an end that closes the source once, whichever it is.
import { describe, expect, test } from 'vitest';
import { createByteStream, takeSource } from '../../src/content/byte-stream.ts';

const bytes = Buffer.from('the bytes of a source');

test('gives a reader without a buffer all bytes', async () => {
  const { stream, closed } = openSource();
  expect(await new Response(stream).text()).toBe(bytes.toString());
  expect(closed()).toBe(1);
});

test('fills the buffer of a reader who brings one', async () => {
  const { stream, closed } = openSource();
  const reader = stream.getReader({ mode: 'byob' });
  let received = '';
  let buffer = new ArrayBuffer(4);
  for (;;) {
    const { done, value } = await reader.read(new Uint8Array(buffer));
    if (done) break;
    received += Buffer.from(value).toString();
    buffer = value.buffer;
    expect(buffer.byteLength).toBe(4);
  }
  expect([received, closed()]).toEqual([bytes.toString(), 1]);
});

test('closes the source of no bytes', async () => {
  const { stream, closed } = openSource({ size: 0 });
  expect(await new Response(stream).text()).toBe('');
  expect(closed()).toBe(1);
});

test('closes a source that fails, before its reader hears of it', async () => {
  let isClosed = false;
  const stream = createByteStream({
    read: () => Promise.reject(new Error('the disk is gone')),
    async close() {
      isClosed = true;
    },
  });
  await expect(stream.getReader().read()).rejects.toThrow('the disk is gone');
  expect(isClosed).toBe(true);
});

describe('a reader who leaves', () => {
  test.each([
    ['before he reads', 0],
    ['half way', 2],
  ])('%s closes the source', async (_, reads) => {
    const { stream, closed } = openSource();
    const reader = stream.getReader({ mode: 'byob' });
    for (let read = 0; read < reads; read += 1) await reader.read(new Uint8Array(4));
    await reader.cancel();
    expect(closed()).toBe(1);
  });

  test.each([
    ['ends', (waiting: PromiseWithResolvers<number>) => waiting.resolve(1)],
    ['fails', (waiting: PromiseWithResolvers<number>) => waiting.reject(new Error('closed'))],
  ])('while a read is under way closes the source, and the read %s for nobody', async (_, end) => {
    const waiting = Promise.withResolvers<number>();
    const started = Promise.withResolvers<void>();
    let closed = 0;
    const stream = createByteStream({
      read() {
        started.resolve();
        return waiting.promise;
      },
      close: async () => void closed++,
    });
    const reader = stream.getReader({ mode: 'byob' });
    const read = reader.read(new Uint8Array(4));
    await started.promise;
    await reader.cancel();
    end(waiting);
    expect((await read).done).toBe(true);
    await reader.closed;
    expect(closed).toBe(1);
  });
});

function openSource({ size = bytes.length } = {}) {
  let offset = 0;
  let closed = 0;
  const stream = createByteStream({
    async read(view) {
      const part = bytes.subarray(offset, Math.min(size, offset + view.byteLength));
      view.set(part);
      offset += part.byteLength;
      return part.byteLength;
    },
    close: async () => void closed++,
  });
  return { stream, closed: () => closed };
}

describe('a source that is taken from its stream', () => {
  test('has what is left of it, and is closed once, at its end', async () => {
    const { stream, closed } = openSource();
    const reader = stream.getReader({ mode: 'byob' });
    const { value } = await reader.read(new Uint8Array(4));
    reader.releaseLock();
    const source = takeSource(stream);
    expect([stream.locked, takeSource(stream)]).toEqual([true, undefined]);
    const view = new Uint8Array(bytes.byteLength);
    let size = 0;
    for (let read = -1; read !== 0; size += read) read = (await source?.read(view.subarray(size))) ?? 0;
    expect(Buffer.concat([value ?? view, view.subarray(0, size)]).equals(bytes)).toBe(true);
    await source?.close();
    expect(closed()).toBe(1);
  });

  test('is closed where a read fails, and gives nothing more', async () => {
    let closed = 0;
    const stream = createByteStream({
      read: () => Promise.reject(new Error('the disk is gone')),
      async close() {
        closed += 1;
      },
    });
    const source = takeSource(stream);
    await expect(source?.read(new Uint8Array(4))).rejects.toThrow('the disk is gone');
    expect([closed, await source?.read(new Uint8Array(4))]).toEqual([1, 0]);
  });

  test('gives nothing of a read during which it is closed', async () => {
    const waiting = Promise.withResolvers<number>();
    const source = takeSource(createByteStream({ read: () => waiting.promise, async close() {} }));
    const read = source?.read(new Uint8Array(4));
    await source?.close();
    waiting.resolve(4);
    expect(await read).toBe(0);
  });

  test('is none of a stream of chunks', () => {
    const stream = ReadableStream.from([bytes]);
    expect([takeSource(stream), stream.locked]).toEqual([undefined, false]);
  });
});
