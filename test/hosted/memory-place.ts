// Content and upload files in memory, which outlive a store as files outlive a process, and take no time: for tests of very many interleavings.
import { Buffer } from 'node:buffer';
import type { Inventory } from '../../src/content/inventory.ts';
import type { ContentStore } from '../../src/content/store.ts';
import type { UploadFile, UploadFiles } from '../../src/content/upload-files.ts';
import { type Digest, type DigestAlgorithm, digestAlgorithm, digestHex, digestOf } from '../../src/oci/digest.ts';
import { ContentMismatch } from '../../src/oci/verify.ts';

export interface MemoryPlace {
  readonly content: ContentStore;
  readonly uploadFiles: UploadFiles;
  readonly files: Inventory;
}

export function createMemoryPlace(now: () => Date): MemoryPlace {
  const kept = new Map<Digest, Uint8Array>();
  const keptAt = new Map<Digest, Date>();
  const uploadFiles = new Map<string, { bytes: Uint8Array; touched: Date }>();

  function keep(digest: Digest, bytes: Uint8Array): void {
    kept.set(digest, bytes);
    keptAt.set(digest, now());
  }

  async function ingest(body: ReadableStream<Uint8Array>, promised: Digest | undefined) {
    const bytes = Buffer.from(await new Response(body).arrayBuffer());
    const digest = digestOf(bytes, promised && digestAlgorithm(promised));
    if (promised && digest !== promised) throw new ContentMismatch(`${digest} is not ${promised}`);
    keep(digest, bytes);
    return { digest, size: bytes.byteLength };
  }

  function draftOf(id: string): UploadFile {
    const find = () => uploadFiles.get(id) ?? { bytes: Buffer.of(), touched: now() };
    let { byteLength: size } = find().bytes;
    return {
      get size() {
        return size;
      },
      async append(pieces) {
        for await (const piece of pieces) {
          uploadFiles.set(id, { bytes: Buffer.concat([find().bytes, piece]), touched: now() });
          size += piece.byteLength;
        }
      },
      async truncate(to) {
        uploadFiles.set(id, { bytes: find().bytes.subarray(0, to), touched: now() });
        size = to;
      },
      async commit(expected) {
        const { bytes } = find();
        if (digestOf(bytes, digestAlgorithm(expected)) !== expected) throw new ContentMismatch('other bytes');
        keep(expected, bytes);
        uploadFiles.delete(id);
      },
    };
  }

  return {
    content: {
      async find(digest) {
        const bytes = kept.get(digest);
        return bytes && { size: bytes.byteLength };
      },
      async open(digest, range) {
        const bytes = kept.get(digest);
        return bytes && ReadableStream.from([bytes.subarray(range?.start, range && range.end + 1)]);
      },
      read: async digest => kept.get(digest),
      async put(bytes, algorithm) {
        const digest = digestOf(bytes, algorithm);
        keep(digest, bytes);
        return digest;
      },
      ingest(body, expected) {
        const done = ingest(body, expected?.digest);
        const begun = done.then(() => {});
        begun.catch(() => {});
        return { begun, done, received: 0, open: () => ReadableStream.from([]) };
      },
      delete: async digest => void kept.delete(digest),
      async close() {},
    },
    uploadFiles: {
      async create(id: string, _algorithm: DigestAlgorithm) {
        uploadFiles.set(id, { bytes: Buffer.of(), touched: now() });
        return draftOf(id);
      },
      open: async id => (uploadFiles.has(id) ? draftOf(id) : undefined),
      findTouched: async id => uploadFiles.get(id)?.touched,
      discard: async id => void uploadFiles.delete(id),
      list: async () => [...uploadFiles.keys()],
    },
    files: {
      async *list() {
        yield* [...kept.keys()];
      },
      listBeside: async () => [...kept.keys()],
      listPart: async hex => [...kept.keys()].filter(digest => digestHex(digest).startsWith(hex)),
      findStoredAt: async digest => (kept.has(digest) ? keptAt.get(digest) : undefined),
    },
  };
}
