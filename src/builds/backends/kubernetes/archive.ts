// Sends a build context to a pod: as a cpio archive (newc), since busybox's tar loses names that need an extended header.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { readDirectory } from '../../context/directory.ts';
import { bytesOf } from '../../context/tar.ts';
import type { Entry } from '../../context/tree.ts';

const ALIGNMENT = 4;
const KINDS = { file: 0o100000, directory: 0o040000, symlink: 0o120000 } as const;
const TRAILER = 'TRAILER!!!';

/** The directory without ignored files, gzipped: without times, owned by root. The caller reads it to its end or returns it. */
export async function packContext(directory: string): Promise<AsyncGenerator<Uint8Array>> {
  const tree = await readDirectory(directory);
  return bytesOf(Readable.from(encodeCpio(tree.list())).compose(createGzip()));
}

/** Names are arbitrary bytes; a directory precedes its contents. */
export async function* encodeCpio(
  entries: Iterable<readonly [name: string, entry: Entry]>,
): AsyncGenerator<Uint8Array> {
  let number = 0;
  for (const [name, entry] of entries) {
    number += 1;
    const target = entry.kind === 'symlink' ? Buffer.from(entry.target) : Buffer.alloc(0);
    const size = entry.kind === 'file' ? entry.size : target.length;
    yield header(name, { number, mode: KINDS[entry.kind] | (entry.kind === 'symlink' ? 0o777 : entry.mode), size });
    if (entry.kind === 'file') yield* entry.open();
    yield Buffer.concat([target, padding(size)]);
  }
  yield header(TRAILER, { number: 0, mode: 0, size: 0 });
}

interface Header {
  readonly number: number;
  readonly mode: number;
  readonly size: number;
}

function header(name: string, { number, mode, size }: Header): Uint8Array {
  const text = Buffer.from(`${name}\0`);
  // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
  const fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, text.length, 0];
  const head = Buffer.from(`070701${fields.map(field => field.toString(16).padStart(8, '0')).join('')}`);
  return Buffer.concat([head, text, padding(head.length + text.length)]);
}

function padding(length: number): Uint8Array {
  return Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}

// Build contexts for pods to fetch: each at its own signed address, as long as its build may run. The key survives restarts, so that a pod
// which waited for a node still finds its context.

export interface ContextOffers {
  /** The path with query that serves the file to anyone who knows it, until the offer is withdrawn. */
  offer(name: string, file: string, ttlMs: number): Promise<Offer>;
  /**
   * Undefined for an address that was not signed here, has expired, or whose offer was withdrawn. The caller reads it to its end or returns
   * it.
   */
  open(
    name: string,
    query: { readonly expires: string; readonly signature: string },
  ): Promise<AsyncIterable<Uint8Array> | undefined>;
}

interface Offer {
  readonly path: string;
  end(): Promise<void>;
}

export interface OfferedFiles {
  put(name: string, file: string, ttlMs: number): Promise<void>;
  open(name: string): Promise<AsyncIterable<Uint8Array> | undefined>;
  remove(name: string): Promise<void>;
}

/** Where http serves them. */
export const CONTEXTS_PATH = '/v1/builds/contexts/';

export function createContextOffers({
  key,
  now,
  files = createOwnFiles(),
}: {
  readonly key: string;
  readonly now: () => Date;
  /** Default: of this process alone. */
  readonly files?: OfferedFiles | undefined;
}): ContextOffers {
  const sign = (name: string, expires: string) => createHmac('sha256', key).update(`${expires} ${name}`).digest();
  return {
    async offer(name, file, ttlMs) {
      await files.put(name, file, ttlMs);
      const expires = String(now().getTime() + ttlMs);
      const query = new URLSearchParams({ expires, signature: sign(name, expires).toString('base64url') });
      return { path: `${CONTEXTS_PATH}${name}?${query}`, end: () => files.remove(name) };
    },
    async open(name, { expires, signature }) {
      const given = Buffer.from(signature, 'base64url');
      const expected = sign(name, expires);
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
      return Number(expires) > now().getTime() ? files.open(name) : undefined;
    },
  };
}

function createOwnFiles(): OfferedFiles {
  const files = new Map<string, string>();
  return {
    put: async (name, file) => void files.set(name, file),
    async open(name) {
      const file = files.get(name);
      return file === undefined ? undefined : readWhenAsked(file);
    },
    remove: async name => void files.delete(name),
  };
}

/** Opens the file with the first read: nothing has to be closed before. */
async function* readWhenAsked(file: string): AsyncGenerator<Uint8Array> {
  yield* bytesOf(createReadStream(file));
}
