// A store that cannot keep what comes in: readers see the failure before the first byte, or not at all.
import { randomBytes } from 'node:crypto';
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { createIngestion, type StagedBlob } from '../../src/content/ingestion.ts';
import { StorageFailure } from '../../src/content/store.ts';
import type { ByteRange } from '../../src/oci/bytes.ts';
import { digestOf } from '../../src/oci/digest.ts';

const bytes = Buffer.from('a layer that does not fit');
const expected = { digest: digestOf(bytes), size: bytes.length };

let directory: string;
let staged: StagedBlob;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-ingestion-'));
  const path = join(directory, 'temporary');
  staged = {
    create: () => open(path, 'wx+'),
    grow: () => undefined,
    commit: async () => {},
    reopen: () => open(path),
    discard: () => rm(path, { force: true }),
  };
});

afterEach(() => rm(directory, { recursive: true }));

const full: Partial<StagedBlob> = { create: () => open('/dev/full', 'r+') };
const closed: Partial<StagedBlob> = { create: () => Promise.reject(new Error('read-only file system')) };

test.runIf(process.platform === 'linux').each([
  ['is full', full],
  ['takes no file', closed],
])('a disk that %s fails it before any byte is served, and the body is cancelled', async (_, fault) => {
  const cancelled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: controller => controller.enqueue(bytes),
    cancel: () => cancelled.resolve(),
  });
  const ingestion = ingest(body, fault);
  const reader = ingestion.open();
  await Promise.all([
    expect(ingestion.begun).rejects.toBeInstanceOf(StorageFailure),
    expect(ingestion.done).rejects.toBeInstanceOf(StorageFailure),
    expect(new Response(reader).bytes()).rejects.toBeInstanceOf(StorageFailure),
    cancelled.promise,
  ]);
});

test('what is verified is served to its end, though it cannot be kept', async () => {
  const fault = { commit: () => Promise.reject(new Error('no space for a directory entry')) };
  const ingestion = ingest(new Blob([bytes]).stream(), fault);
  const before = ingestion.open();
  await expect(ingestion.done).rejects.toBeInstanceOf(StorageFailure);
  expect(bytes.equals(await new Response(before).bytes())).toBe(true);
  await expect(new Response(ingestion.open()).bytes()).rejects.toBeInstanceOf(StorageFailure);
});

describe('a body that comes faster than it is read', () => {
  const MIB = 2 ** 20;
  const size = 8 * MIB;
  const large = randomBytes(size);

  function* pieces() {
    for (let at = 0; at < size; at += 65_536) yield large.subarray(at, at + 65_536);
  }

  /** Of a clock that stands still. */
  function start() {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    onTestFinished(() => void vi.useRealTimers());
    const unread = { graceMs: 3_600_000, finishMs: 7_200_000, isWorthFinishing: () => true };
    return createIngestion({
      body: ReadableStream.from(pieces()),
      expected: { digest: digestOf(large), size },
      ...{ staged, unread, signal: new AbortController().signal },
    });
  }

  test('waits for who reads on, so that what was read last is still in memory', async () => {
    const ingestion = start();
    await ingestion.begun;
    let position = 0;
    let most = 0;
    for await (const chunk of ingestion.open()) {
      most = Math.max(most, ingestion.received - position);
      position += chunk.byteLength;
      // The body has time to come further.
      for (let turns = 0; turns < 20; turns += 1) await new Promise(resolve => setImmediate(resolve));
    }
    expect(position).toBe(size);
    expect(most).toBeLessThan(MIB);
  });

  test('waits a moment for its first reader, and then for nobody', async () => {
    const ingestion = start();
    // Its grace for readers, and the moment.
    while (vi.getTimerCount() < 2) await new Promise(resolve => setImmediate(resolve));
    expect(ingestion.received).toBeLessThan(MIB);
    vi.advanceTimersByTime(1000);
    expect((await ingestion.done).size).toBe(size);
  });

  test('does not wait for a reader that takes nothing', async () => {
    const ingestion = start();
    while (vi.getTimerCount() < 2) await new Promise(resolve => setImmediate(resolve));
    const reader = ingestion.open();
    vi.advanceTimersByTime(1000);
    expect((await ingestion.done).size).toBe(size);
    expect(large.equals(await new Response(reader).bytes())).toBe(true);
  });

  test.each([
    ['near its beginning', 20 * 1024],
    ['after much that they have read quickly', 6 * MIB],
  ])('is not held up for long by readers who come one after the other, and stop %s', async (_, first) => {
    const ingestion = start();
    await ingestion.begun;
    const last: { done?: true } = {};
    void ingestion.done.then(() => Object.assign(last, { done: true }));
    const readTo = async (end: number) => {
      const reader = ingestion.open().getReader({ mode: 'byob' });
      for (let position = 0; position < end; ) {
        position += (await reader.read(new Uint8Array(Math.min(MIB, end - position)))).value?.byteLength ?? 0;
      }
      return reader;
    };
    let before = await readTo(first);
    for (let waitedMs = 0; waitedMs < 3000 && !last.done; waitedMs += 50) {
      // The only timer is that of the body, while it waits for a reader.
      while (vi.getTimerCount() === 0 && !last.done) await new Promise(resolve => setImmediate(resolve));
      // Where the body still waits for it.
      const reader = await readTo(ingestion.received - 300 * 1024);
      await before.cancel();
      before = reader;
      vi.advanceTimersByTime(50);
    }
    await before.cancel();
    expect(last).toEqual({ done: true });
  });

  test('does not wait for a reader who left during a read', async () => {
    const ingestion = start();
    await ingestion.begun;
    const reader = ingestion.open().getReader({ mode: 'byob' });
    await reader.read(new Uint8Array(1));
    const reading = reader.read(new Uint8Array(1));
    await reader.cancel();
    await reading;
    expect((await ingestion.done).size).toBe(size);
  });
});

describe('a disk that is full before the end', () => {
  const size = 3 * 2 ** 20;
  const large = randomBytes(size);
  const promised = { digest: digestOf(large), size };

  /** The disk takes what is sent before `fill`, and nothing that comes after it. */
  function start() {
    let isFull = false;
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const source = writable.getWriter();
    source.closed.catch(() => {});
    const filling: Partial<StagedBlob> = {
      async create() {
        const file = await staged.create();
        const writev = file.writev.bind(file);
        const refuse = () => Promise.reject(new Error('no space left on device'));
        return Object.assign(file, {
          writev: (buffers: readonly Uint8Array[]) => (isFull ? refuse() : writev(buffers)),
        });
      },
    };
    const { signal } = new AbortController();
    const ingestion = createIngestion({
      body: readable,
      expected: promised,
      staged: { ...staged, ...filling },
      signal,
    });
    return {
      ingestion,
      async begin() {
        await source.write(large.subarray(0, 2 ** 20));
        await source.write(large.subarray(2 ** 20, 2 ** 21));
        await ingestion.begun;
      },
      fill() {
        isFull = true;
        void source.write(large.subarray(2 ** 21)).catch(() => {});
      },
    };
  }

  test('breaks off who has nowhere else to get the rest', async () => {
    const { ingestion, begin, fill } = start();
    await begin();
    fill();
    await expect(new Response(ingestion.open()).bytes()).rejects.toBeInstanceOf(StorageFailure);
  });

  test.each([
    ['all of it', undefined, 0, size],
    ['a part of it', { start: 1000, end: size - 2 }, 1000, size - 1],
  ])('leaves the rest to who can get it: %s', async (_, range, from, to) => {
    const { ingestion, begin, fill } = start();
    await begin();
    const rests: ByteRange[] = [];
    const reader = ingestion
      .open(range, async rest => {
        rests.push(rest);
        return new Blob([large.subarray(rest.start, rest.end + 1)]).stream();
      })
      .getReader();
    const first = (await reader.read()).value ?? Buffer.of();
    fill();
    const chunks = [first];
    for (let next = await reader.read(); next.value; next = await reader.read()) chunks.push(next.value);
    expect(large.subarray(from, to).equals(Buffer.concat(chunks))).toBe(true);
    expect(rests).toEqual([{ start: expect.any(Number), end: range?.end ?? Number.POSITIVE_INFINITY }]);
    expect(rests[0]?.start).toBeGreaterThanOrEqual(from + first.byteLength);
  });

  test('leaves nothing open for who has left', async () => {
    const { ingestion, begin, fill } = start();
    await begin();
    const asked = Promise.withResolvers<void>();
    const cancelled = Promise.withResolvers<void>();
    const reader = ingestion
      .open(undefined, async () => {
        asked.resolve();
        return new ReadableStream({ cancel: () => cancelled.resolve() });
      })
      .getReader();
    fill();
    const reading = (async () => {
      while (!(await reader.read()).done);
    })();
    await asked.promise;
    await reader.cancel();
    await Promise.all([reading, cancelled.promise]);
  });
});

function ingest(body: ReadableStream<Uint8Array>, fault: Partial<StagedBlob>) {
  const { signal } = new AbortController();
  return createIngestion({ body, expected, staged: { ...staged, ...fault }, signal });
}
