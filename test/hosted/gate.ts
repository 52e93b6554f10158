// A gate between the repositories and their stores: the scheduler lets calls through, in an order of its choosing; some fail; and at some point the
// process is dead, and nothing passes any more.
import type fc from 'fast-check';
import type { Bucket } from '../../src/content/bucket.ts';
import type { ContentStore } from '../../src/content/store.ts';
import type { UploadFile, UploadFiles } from '../../src/content/upload-files.ts';
import type { RecordStore } from '../../src/state/store.ts';

export interface GateOptions {
  /** How many calls pass before the process dies. */
  readonly crashAfter?: number;
  /** Which of the writes and deletions fail, by their order. */
  readonly faultyWrites?: readonly number[];
  /** Which of the calls wait, by their order, and for how many turns of the scheduler: meanwhile others get far ahead. */
  readonly pauses?: readonly (readonly [call: number, turns: number])[];
}

export interface Stores {
  readonly content: ContentStore;
  readonly uploadFiles: UploadFiles;
  readonly records: RecordStore;
}

export interface Gate {
  around(stores: Stores): Stores;
  aroundBucket(bucket: Bucket): Bucket;
  isDead(): boolean;
  /** Lets calls through until all that is worked at is done, or the process is dead. */
  passAll(working: readonly Promise<void>[]): Promise<void>;
}

export class InjectedFault extends Error {
  override readonly name = 'InjectedFault';
}

export function createGate(scheduler: fc.Scheduler | undefined, options: GateOptions): Gate {
  const { crashAfter = Number.POSITIVE_INFINITY, faultyWrites = [], pauses = [] } = options;
  const turnsAt = new Map(pauses);
  let begun = 0;
  const dead = Promise.withResolvers<void>();
  let passed = 0;
  let writes = 0;

  async function pass(): Promise<void> {
    const turns = 1 + (turnsAt.get(begun++) ?? 0);
    for (let turn = 0; turn < turns; turn += 1) await scheduler?.schedule(Promise.resolve());
    passed += 1;
    if (passed <= crashAfter) return;
    dead.resolve();
    await new Promise<never>(() => {});
  }

  function reading<A extends readonly unknown[], R>(call: (...args: A) => Promise<R>) {
    return async (...args: A): Promise<R> => {
      await pass();
      return call(...args);
    };
  }

  function writing<A extends readonly unknown[], R>(call: (...args: A) => Promise<R>) {
    return async (...args: A): Promise<R> => {
      await pass();
      if (faultyWrites.includes(writes++)) throw new InjectedFault('a fault of the disk');
      return call(...args);
    };
  }

  const aroundDraft = (file: UploadFile): UploadFile => ({
    append: reading(file.append),
    commit: writing(file.commit),
    truncate: writing(file.truncate),
    keep: file.keep,
    get size() {
      return file.size;
    },
  });

  return {
    around: ({ content, uploadFiles, records }) => ({
      content: {
        ...content,
        find: reading(content.find),
        open: reading(content.open),
        read: reading(content.read),
        delete: writing(content.delete),
        put: writing(content.put),
        ingest(body, expected) {
          const done = writing(() => content.ingest(body, expected).done)();
          const begun = done.then(() => {});
          begun.catch(() => {});
          return { begun, done, received: 0, open: () => ReadableStream.from([]) };
        },
      },
      uploadFiles: {
        ...uploadFiles,
        create: async (id, algorithm) => aroundDraft(await reading(uploadFiles.create)(id, algorithm)),
        discard: writing(uploadFiles.discard),
      },
      records: {
        ...records,
        get: reading(records.get),
        list: reading(records.list),
        entries: reading(records.entries),
        // A fault of a lease is the death of its holder.
        write: (changes, options) => (options?.isVolatile ? reading : writing)(records.write)(changes, options),
        put: writing(records.put),
        delete: writing(records.delete),
      },
    }),
    aroundBucket: bucket => ({
      ...bucket,
      find: reading(bucket.find),
      open: reading(bucket.open),
      put: writing(bucket.put),
      copy: writing(bucket.copy),
      delete: writing(bucket.delete),
      async *list(prefix) {
        await pass();
        yield* bucket.list(prefix);
      },
    }),
    isDead: () => passed > crashAfter,
    async passAll(working) {
      const over = Promise.race([Promise.all(working), dead.promise]);
      await (scheduler ? scheduler.waitFor(over) : over);
    },
  };
}
