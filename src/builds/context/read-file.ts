// The bytes of a file of this machine that was looked at before: of that one, and of no other that has its name now.
import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { readChunk } from '../../content/file-stream.ts';

/** Exactly as many as it had; no link is followed. `changed()` is thrown where it is another file, or has another size. */
export async function* readFileOf(
  path: string,
  { dev, ino, size }: Stats,
  changed: () => Error,
): AsyncGenerator<Uint8Array> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const now = await file.stat();
    if (now.dev !== dev || now.ino !== ino || now.size !== size) throw changed();
    for (let at = 0; at < size; ) {
      const chunk = await readChunk(file, at, size);
      at += chunk.byteLength;
      yield chunk;
    }
  } finally {
    await file.close();
  }
}
