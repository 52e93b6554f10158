// The link journal: a file beside the content that repeats which blobs, manifests and tags the repositories have, one line of JSON for each
// change. Lost records are rebuilt from it. Unlike the records it is not synced with each push: it protects against an operator's mistake,
// not a power cut, after which the next sweep rewrites it. Records that several machines share have none: no file has the changes of all.
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { type Change, type ListOptions, pagesOf, type RecordStore } from '../../state/store.ts';
import { type BlobRecord, blobSchema, manifestSchema, type TagRecord, tagSchema } from '../records.ts';

export interface LinkJournal {
  /** The same records, with changes appended to the journal once they are durable. */
  readonly records: RecordStore;
  /**
   * To be called every few minutes, while the records are known to be complete: rewrites it from them at the first call, and whenever a
   * line could not be written or most of it is outdated.
   */
  sweep(): Promise<void>;
  /** Rewrites it from the records; changes continue meanwhile. */
  rewrite(): Promise<void>;
  close(): Promise<void>;
}

/** In the directory of the hosted content. */
export const LINK_JOURNAL = 'links.jsonl';
/** A file of this size is not worth rewriting. */
const SMALL_BYTES = 1024 * 1024;
const PAGE = 500;

export function openLinkJournal({
  directory,
  records,
  now,
  isWritten = true,
}: {
  /** Of the hosted content. */
  readonly directory: string;
  readonly records: RecordStore;
  readonly now: () => Date;
  /** False where several machines share the records: their changes would not be in one file. */
  readonly isWritten?: boolean;
}): LinkJournal {
  if (!isWritten) return { records, async sweep() {}, async rewrite() {}, async close() {} };
  const { locks } = records;
  const path = pathOf(directory);
  // In the order of the changes, as they are noted under the locks under which they are made.
  const queue = <T>(work: () => Promise<T>) => locks.withLock(APPENDING, work);
  let file: FileHandle | undefined;
  let isBehind = true;
  let freshBytes = 0;
  /** What waits for its turn is appended together. */
  let waiting: string[] = [];
  let appending: Promise<void> = Promise.resolve();

  async function append(lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return;
    waiting.push(...lines);
    if (waiting.length === lines.length) appending = appendWaiting();
    await appending;
  }

  /** Never rejects: what is acknowledged is in the records. */
  async function appendWaiting(): Promise<void> {
    try {
      await queue(async () => {
        const lines = waiting;
        waiting = [];
        if (locks.areShared && !(await isInPlace(file, path))) await close();
        file ??= await open(path, 'a', 0o600);
        await file.appendFile(encodeAll(lines));
      });
    } catch {
      // Whatever waits is rewritten, too.
      waiting = [];
      isBehind = true;
    }
  }

  async function close(): Promise<void> {
    await file?.close();
    file = undefined;
  }

  const note = (changes: readonly Change[]) => append(changes.flatMap(change => encodeChange(change, now)));

  async function copyAll(to: FileHandle): Promise<void> {
    for (const collection of COLLECTIONS) {
      const read = (options: ListOptions) => records.entries(collection, options);
      for await (const page of pagesOf(read, { limit: PAGE })) {
        const puts = page.map(entry => ({ kind: 'put', collection, ...entry }) as const);
        await to.appendFile(encodeAll(puts.flatMap(put => encodeChange(put, now))));
      }
    }
  }

  async function rewrite(): Promise<void> {
    const fresh = `${path}.new`;
    const to = await open(fresh, 'w+', 0o600);
    try {
      // Changes from here on are appended to the copy.
      const start = await queue(async () => {
        isBehind = false;
        return (await stat(path, { throwIfNoEntry: false }))?.size ?? 0;
      });
      await copyAll(to);
      await queue(async () => {
        await copyTail(path, start, to);
        await to.sync();
        freshBytes = (await to.stat()).size;
        await rename(fresh, path);
        await close();
      });
    } catch (error) {
      isBehind = true;
      await rm(fresh, { force: true });
      throw error;
    } finally {
      await to.close();
    }
  }

  return {
    records: {
      ...records,
      async put(collection, key, value, options) {
        await records.put(collection, key, value, options);
        await note([{ kind: 'put', collection, key, value }]);
      },
      async delete(collection, key) {
        const wasThere = await records.delete(collection, key);
        await note([{ kind: 'delete', collection, key }]);
        return wasThere;
      },
      async write(changes, options) {
        await records.write(changes, options);
        await note(changes);
      },
    },
    rewrite: () => locks.withLock(REWRITING, rewrite),
    async sweep() {
      const bytes = (await stat(path, { throwIfNoEntry: false }))?.size ?? 0;
      // What another process is rewriting need not be rewritten twice.
      if (isBehind || bytes > 2 * Math.max(freshBytes, SMALL_BYTES)) await locks.withFreeLock(REWRITING, rewrite);
    },
    close: () => queue(close),
  };
}

const APPENDING = 'link-journal';
const REWRITING = 'link-journal-rewrite';

/** Another process may have replaced the file. */
async function isInPlace(file: FileHandle | undefined, path: string): Promise<boolean> {
  return file !== undefined && (await file.stat()).ino === (await stat(path, { throwIfNoEntry: false }))?.ino;
}

/** The last line about a key: its record, or when it was deleted. */
interface LastLine<V> {
  readonly value?: V | undefined;
  readonly goneAt?: string | undefined;
}

/** By the keys of the records. */
export interface JournaledLinks {
  readonly blobs: ReadonlyMap<string, LastLine<BlobRecord>>;
  readonly manifests: ReadonlyMap<string, LastLine<JournaledManifest>>;
  readonly tags: ReadonlyMap<string, LastLine<TagRecord>>;
  /** Lines that are truncated or damaged: they are skipped. */
  readonly damaged: number;
}

/** Undefined where there is no journal. */
export async function readLinkJournal(directory: string): Promise<JournaledLinks | undefined> {
  const path = pathOf(directory);
  if (!(await stat(path, { throwIfNoEntry: false }))) return undefined;
  const blobs = new Map<string, LastLine<BlobRecord>>();
  const manifests = new Map<string, LastLine<JournaledManifest>>();
  const tags = new Map<string, LastLine<TagRecord>>();
  let damaged = 0;
  await using file = await open(path);
  for await (const text of file.readLines()) {
    if (text === '') continue;
    const line = parseLine(text);
    if (!line) damaged += 1;
    else if (line.collection === 'hosted.blob') blobs.set(line.key, line);
    else if (line.collection === 'hosted.manifest') manifests.set(line.key, line);
    else tags.set(line.key, line);
  }
  return { blobs, manifests, tags, damaged };
}

/** Facts that the bytes do not contain. */
const journaledManifestSchema = manifestSchema.pick({ mediaType: true, pushedAt: true, untaggedAt: true });

export type JournaledManifest = z.infer<typeof journaledManifestSchema>;

const lineOf = { key: z.string(), goneAt: z.iso.datetime().optional() };

/** A line has a value or a deletion time. */
const lineSchema = z.discriminatedUnion('collection', [
  z.object({ collection: z.literal('hosted.blob'), ...lineOf, value: blobSchema.optional() }),
  z.object({ collection: z.literal('hosted.manifest'), ...lineOf, value: journaledManifestSchema.optional() }),
  z.object({ collection: z.literal('hosted.tag'), ...lineOf, value: tagSchema.optional() }),
]);

const COLLECTIONS = ['hosted.blob', 'hosted.manifest', 'hosted.tag'];

/** Nothing for changes of other records, and for records of an unknown shape. */
function encodeChange(change: Change, now: () => Date): readonly string[] {
  const { collection, key } = change;
  if (!COLLECTIONS.includes(collection)) return [];
  const rest = change.kind === 'put' ? { value: parseJson(change.value) } : { goneAt: now().toISOString() };
  const { data } = lineSchema.safeParse({ collection, key, ...rest });
  return data ? [JSON.stringify(data)] : [];
}

/** Each entry starts on a new line, even after a truncated one. */
function encodeAll(lines: readonly string[]): string {
  return lines.map(line => `\n${line}`).join('');
}

function parseLine(text: string): z.infer<typeof lineSchema> | undefined {
  return lineSchema.safeParse(parseJson(Buffer.from(text))).data;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return undefined;
  }
}

function pathOf(directory: string): string {
  return join(directory, LINK_JOURNAL);
}

const COPY_BYTES = 64 * 1024;

async function copyTail(path: string, start: number, to: FileHandle): Promise<void> {
  if (!(await stat(path, { throwIfNoEntry: false }))) return;
  await using from = await open(path);
  const buffer = new Uint8Array(COPY_BYTES);
  for (let at = start; ; ) {
    const { bytesRead } = await from.read(buffer, 0, COPY_BYTES, at);
    if (bytesRead === 0) return;
    await to.appendFile(buffer.subarray(0, bytesRead));
    at += bytesRead;
  }
}
