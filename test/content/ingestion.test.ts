// A store that cannot keep what comes in: whoever reads is told before the first byte, or not at all.
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createIngestion, type Slot } from '../../src/content/ingestion.ts';
import { StorageFailure } from '../../src/content/store.ts';
import { digestOf } from '../../src/oci/digest.ts';

const bytes = Buffer.from('a layer that does not fit');
const expected = { digest: digestOf(bytes), size: bytes.length };

let directory: string;
let slot: Slot;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-ingestion-'));
  const path = join(directory, 'temporary');
  slot = {
    create: () => open(path, 'wx+'),
    keep: async () => {},
    reopen: () => open(path),
    discard: () => rm(path, { force: true }),
  };
});

afterEach(() => rm(directory, { recursive: true }));

const full: Partial<Slot> = { create: () => open('/dev/full', 'r+') };
const closed: Partial<Slot> = { create: () => Promise.reject(new Error('read-only file system')) };

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
  const fault = { keep: () => Promise.reject(new Error('no space for a directory entry')) };
  const ingestion = ingest(new Blob([bytes]).stream(), fault);
  const before = ingestion.open();
  await expect(ingestion.done).rejects.toBeInstanceOf(StorageFailure);
  expect(bytes.equals(await new Response(before).bytes())).toBe(true);
  await expect(new Response(ingestion.open()).bytes()).rejects.toBeInstanceOf(StorageFailure);
});

function ingest(body: ReadableStream<Uint8Array>, fault: Partial<Slot>) {
  const { signal } = new AbortController();
  return createIngestion({ body, expected, slot: { ...slot, ...fault }, signal });
}
