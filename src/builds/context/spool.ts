// Spools the files of an unpacked tar to disk until all of it is known, so that memory stays flat.
import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readChunk } from '../../content/byte-stream.ts';

export interface Spool {
  /** Reads `body` to its end, or throws its error. The returned function opens those bytes, as long as the spool is open. */
  append(body: AsyncIterable<Uint8Array>): Promise<() => AsyncIterable<Uint8Array>>;
  close(): Promise<void>;
}

/** The file is unlinked, so that it goes away with the process. */
export async function createSpool(parent = tmpdir()): Promise<Spool> {
  const file = await openUnnamed(parent);
  let end = 0;
  return {
    async append(body) {
      const start = end;
      for await (const chunk of body) {
        await file.writeFile(chunk);
        end += chunk.byteLength;
      }
      const stop = end;
      return () => readParts(file, start, stop);
    },
    close: () => file.close(),
  };
}

async function openUnnamed(parent: string): Promise<FileHandle> {
  const directory = await mkdtemp(join(parent, 'veneer-spool-'));
  try {
    return await open(join(directory, 'spool'), 'wx+', 0o600);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function* readParts(file: FileHandle, start: number, end: number): AsyncGenerator<Uint8Array> {
  for (let at = start; at < end; ) {
    const chunk = await readChunk(file, at, end);
    at += chunk.byteLength;
    yield chunk;
  }
}
