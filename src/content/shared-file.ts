// One open file for a writer and many readers: opened for the first of them, closed after the last.
import type { FileHandle } from 'node:fs/promises';

export interface SharedFile {
  /** The caller releases what it acquired, once, also when this rejects. */
  acquire(): Promise<FileHandle>;
  release(): Promise<void>;
}

export function createSharedFile(open: () => Promise<FileHandle>): SharedFile {
  let users = 0;
  let file: Promise<FileHandle> | undefined;
  return {
    acquire() {
      users += 1;
      file ??= open();
      return file;
    },
    async release() {
      users -= 1;
      if (users > 0) return;
      const last = file;
      file = undefined;
      const opened = await last?.catch(() => undefined);
      await opened?.close();
    },
  };
}
