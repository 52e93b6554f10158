// Whatever bytes come as a context, they are refused as such or give a context that stays inside.
import { lstat, mkdir, readdir, readlink } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { array, assert, asyncProperty, constantFrom, integer, oneof, record, string, uint8Array } from 'fast-check';
import { expect, test } from 'vitest';
import { storeContext } from '../../../src/builds/context/store-context.ts';
import { DEFAULT_CONTEXT_LIMITS, InvalidContext } from '../../../src/builds/context/tree.ts';
import { unpackContext } from '../../../src/builds/context/unpack-context.ts';
import type { ContentStore } from '../../../src/content/store.ts';
import { makeFolder, openStore, paxHeader, rawHeader, tarSource } from './fixture.ts';

const LIMITS = { ...DEFAULT_CONTEXT_LIMITS, maxBytes: 1024 * 1024, maxEntries: 100 };

const name = oneof(
  array(constantFrom('a', 'b', '..', '.', '', 'long'.repeat(20)), { minLength: 1, maxLength: 5 }).map(parts =>
    parts.join('/'),
  ),
  string({ maxLength: 20 }),
);
const header = record({
  name,
  type: constantFrom(...'01234567xgLKSV\0'),
  size: integer({ min: 0, max: 1100 }),
  linkname: name,
  body: string({ unit: 'binary-ascii', maxLength: 1100 }),
}).map(fields => rawHeader({ ...fields, size: fields.body.length % 3 === 0 ? fields.size : fields.body.length }));
const pax = record({ path: name, linkpath: name }).map(paxHeader);
const archive = array(
  oneof(
    header,
    header,
    pax,
    uint8Array({ maxLength: 600 }).map(bytes => Buffer.from(bytes)),
  ),
  {
    maxLength: 6,
  },
).map(parts => Buffer.concat([...parts, Buffer.alloc(1024)]));
const mutated = record({
  bytes: archive,
  at: integer({ min: 0, max: 4000 }),
  value: integer({ min: 0, max: 255 }),
}).map(({ bytes, at, value }) => Buffer.from(bytes.map((byte, index) => (index === at ? value : byte))));

test('gives a context inside its directory, or InvalidContext', async () => {
  const content = await openStore();
  const parent = await makeFolder();
  let accepted = 0;
  let run = 0;
  await assert(
    asyncProperty(oneof(archive, mutated), integer({ min: 1, max: 2000 }), async (bytes, chunkBytes) => {
      run += 1;
      const directory = join(parent, String(run), 'context');
      await mkdir(directory, { recursive: true });
      const digest = await tryStore(content, run % 2 ? bytes : gzipSync(bytes), chunkBytes);
      if (digest) {
        accepted += 1;
        await unpackContext(content, digest, directory);
        await checkInside(directory);
      }
      expect(await readdir(dirname(directory))).toEqual(['context']);
    }),
    { numRuns: 400, seed: 20260831 },
  );
  expect((await readdir(parent)).length).toBe(run);
  expect(accepted).toBeGreaterThan(20);
});

async function tryStore(content: ContentStore, bytes: Uint8Array, chunkBytes: number) {
  try {
    return (await storeContext(tarSource(bytes, chunkBytes), content, { limits: LIMITS })).digest;
  } catch (error) {
    if (error instanceof InvalidContext) return undefined;
    throw error;
  }
}

async function checkInside(directory: string): Promise<void> {
  for (const name of await readdir(directory, { recursive: true })) {
    const path = join(directory, name);
    const stats = await lstat(path);
    expect(stats.isFile() || stats.isDirectory() || stats.isSymbolicLink()).toBe(true);
    if (!stats.isSymbolicLink()) continue;
    expect(relative(directory, resolve(dirname(path), await readlink(path)))).not.toMatch(/^\.\./);
  }
}
