// One budget for all caches: who goes when it is used up, and that entries count as what they really hold.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { createMemory, maxMemoryBytes, weigh } from '../src/memory.ts';
import { parseManifest } from '../src/oci/manifest.ts';
import { mediaTypes } from '../src/oci/media-type.ts';

const MIB = 1024 * 1024;

test('what was used least lately goes first, whosever cache it is in', () => {
  const memory = createMemory(80_000);
  const one = memory.openCache<string>();
  const other = memory.openCache<string>();
  for (let at = 0; at < 8; at += 1) (at % 2 ? other : one).set(`key ${at}`, 'x'.repeat(800));
  one.get('key 0');
  other.set('another', 'x'.repeat(800));
  other.set('one more', 'x'.repeat(800));
  expect(one.has('key 0')).toBe(true);
  expect([other.has('key 1'), one.has('key 2')]).toEqual([false, false]);
  expect(other.has('one more')).toBe(true);
  expect(memory.bytes).toBeLessThanOrEqual(10_000);
});

test('what somebody comes back for after a minute stays whatever comes once, and that has an eighth of the budget', () => {
  let ms = 1;
  const memory = createMemory(MIB, () => ms);
  const cache = memory.openCache<string>();
  for (let at = 0; at < 10; at += 1) cache.set(`often ${at}`, 'x'.repeat(10_000));
  ms += 61_000;
  for (let at = 0; at < 10; at += 1) expect(cache.get(`often ${at}`)).toBeDefined();
  for (let at = 0; at < 500; at += 1) {
    cache.set(`once ${at}`, 'x'.repeat(10_000));
    cache.get(`once ${at}`);
  }
  for (let at = 0; at < 10; at += 1) expect(cache.has(`often ${at}`)).toBe(true);
  expect(memory.bytes).toBeLessThan(MIB / 8 + 10 * 11_000);
  cache.delete('often 0');
  expect([cache.has('often 0'), cache.get('often 0')]).toEqual([false, undefined]);
});

test('what has been come back for is bounded too, and goes in its order', () => {
  let ms = 1;
  const memory = createMemory(MIB, () => ms);
  const cache = memory.openCache<string>();
  for (let at = 0; at < 200; at += 1) {
    cache.set(`key ${at}`, 'x'.repeat(10_000), at === 199 ? { ttlMs: 120_000 } : {});
    ms += 61_000;
    cache.get(`key ${at}`);
  }
  expect(memory.bytes).toBeLessThanOrEqual(MIB);
  expect([cache.has('key 0'), cache.has('key 198'), cache.has('key 199')]).toEqual([false, true, true]);
  ms += 60_000;
  expect(cache.has('key 199')).toBe(false);
});

test('caches have keys of their own', () => {
  const memory = createMemory();
  const [one, other] = [memory.openCache<number>(), memory.openCache<number>()];
  one.set('key', 1);
  other.set('key', 2);
  other.delete('key');
  expect([one.get('key'), other.get('key')]).toEqual([1, undefined]);
});

test('an entry that is set again counts once, and one that is deleted not at all', () => {
  const memory = createMemory();
  const cache = memory.openCache<string>();
  for (let times = 0; times < 100; times += 1) cache.set('key', 'x'.repeat(times));
  expect(memory.bytes).toBeLessThan(1000);
  cache.delete('key');
  expect(memory.bytes).toBe(0);
});

test('what would leave no room for others is not kept, and takes the place of nothing', () => {
  const memory = createMemory(MIB);
  const cache = memory.openCache<Uint8Array>();
  cache.set('small', new Uint8Array(100));
  cache.set('large', new Uint8Array(MIB / 4));
  cache.set('small', new Uint8Array(MIB / 4));
  expect([cache.get('large'), cache.get('small')]).toEqual([undefined, undefined]);
  expect(memory.bytes).toBe(0);
});

test('what has a time ends with it', () => {
  let ms = 1;
  const cache = createMemory(MIB, () => ms).openCache<true>();
  cache.set('key', true, { ttlMs: 60_000 });
  ms += 59_000;
  expect(cache.has('key')).toBe(true);
  ms += 2000;
  expect([cache.has('key'), cache.get('key')]).toEqual([false, undefined]);
});

test('a slice counts as the whole buffer that it keeps', () => {
  expect(weigh(new Uint8Array(64 * 1024).subarray(0, 600))).toBeGreaterThan(64 * 1024);
  expect(weigh(new Uint8Array(600))).toBeLessThan(1000);
});

test('what refers to itself is weighed once', () => {
  const error = new Error('round', { cause: new Error('and round') });
  const value = { list: [error], error };
  Object.assign(error, { cause: error });
  expect(weigh(value)).toBeLessThan(4000);
});

test.each([
  [64, 8],
  [256, 32],
  [512, 160],
])('of %i MiB caches have at most %i MiB', (limit, most) => {
  expect(maxMemoryBytes(limit * MIB)).toBe(most * MIB);
});

const digest = (at: number) => `sha256:${at.toString(16).padStart(64, '0')}`;

/** What caches of ours hold, each time again. */
const KINDS: Readonly<Record<string, (at: number) => NonNullable<unknown>>> = {
  'a mark': () => true,
  'a small object': at => ({ size: at + 1e9, contentType: `${mediaTypes.ociManifest}; v=${at % 7}` }),
  'a small body': () => new Uint8Array(600),
  'a set of digests': at => new Set(Array.from({ length: 20 }, (_, part) => digest(at * 100 + part))),
  'an error': at => new Error(`there is no such thing as ${at}`),
  'a manifest': at => {
    const layers = Array.from({ length: 6 }, (_, part) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      size: part * 1000,
      digest: digest(at + part),
    }));
    const config = { mediaType: mediaTypes.ociConfig, size: at, digest: digest(at) };
    const text = JSON.stringify({ schemaVersion: 2, mediaType: mediaTypes.ociManifest, config, layers });
    return parseManifest(new TextEncoder().encode(text), mediaTypes.ociManifest);
  },
};

test.each(Object.entries(KINDS))('%s counts as about what it takes of the memory', (_, create) => {
  const memory = createMemory(8 * 1024 * MIB);
  const cache = memory.openCache();
  const before = usedBytes();
  for (let at = 0; at < 10_000; at += 1) cache.set(`registry.example/team/app#@${digest(at)}`, create(at));
  const taken = usedBytes() - before;
  // Of something that is measured in one process with all else.
  expect(memory.bytes).toBeGreaterThan(taken * 0.8);
  expect(memory.bytes).toBeLessThan(taken * 6);
  expect(cache.has(`registry.example/team/app#@${digest(0)}`)).toBe(true);
});

/** Of what is in use. */
function usedBytes(): number {
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
