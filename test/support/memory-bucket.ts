// A bucket that lives as long as the process, for tests of what is built on one.
import { readFile } from 'node:fs/promises';
import type { Bucket } from '../../src/content/bucket.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { verifyBytes } from '../../src/oci/verify.ts';

export interface MemoryBucket extends Bucket {
  readonly objects: ReadonlyMap<string, { readonly bytes: Uint8Array; readonly storedAt: Date }>;
  /** While set, every request is answered as by a service that is away. */
  isAway: boolean;
  /** Puts other bytes in place of an object's. */
  damage(key: string): void;
}

export function createMemoryBucket({ now = () => new Date() }: { readonly now?: () => Date } = {}): MemoryBucket {
  const objects = new Map<string, { readonly bytes: Uint8Array; readonly storedAt: Date }>();

  function ask(): void {
    if (bucket.isAway)
      throw new RegistryError('UNAVAILABLE', 'the object store does not answer', { status: 503, retryAfterSeconds: 5 });
  }

  function find(key: string) {
    ask();
    return objects.get(key);
  }

  const bucket: MemoryBucket = {
    objects,
    isAway: false,
    damage(key) {
      const { bytes, storedAt } = objects.get(key) ?? { bytes: new Uint8Array(), storedAt: now() };
      const damaged = bytes.slice();
      damaged[0] = (damaged[0] ?? 0) ^ 1;
      objects.set(key, { bytes: damaged, storedAt });
    },
    async find(key) {
      const found = find(key);
      return found && { key, size: found.bytes.byteLength, storedAt: found.storedAt };
    },
    locate: async () => undefined,
    async open(key, range) {
      const found = find(key);
      const bytes = range ? found?.bytes.subarray(range.start, range.end + 1) : found?.bytes;
      return bytes && { body: new Blob([bytes.slice()]).stream(), size: bytes.byteLength };
    },
    async put(key, { path, ...expected }, { isReplaced = false } = {}) {
      ask();
      const bytes = await readFile(path);
      verifyBytes(bytes, expected);
      if (isReplaced || objects.get(key)?.bytes.byteLength !== bytes.byteLength)
        objects.set(key, { bytes, storedAt: now() });
    },
    async copy(from, to) {
      const found = find(from);
      if (found) objects.set(to, { ...found, storedAt: now() });
      return found !== undefined;
    },
    async delete(key) {
      ask();
      objects.delete(key);
    },
    async *list(prefix) {
      ask();
      for (const [key, { bytes, storedAt }] of [...objects].sort(([a], [b]) => (a < b ? -1 : 1)))
        if (key.startsWith(prefix)) yield { key, size: bytes.byteLength, storedAt };
    },
    abortUploads: async () => 0,
    async checkAccess() {},
    findFault: async () => (bucket.isAway ? 'the object store does not answer' : undefined),
    close() {},
  };
  return bucket;
}
