// What the file of a log has already of what a builder tells again from its beginning. Times aside, it is told in the same words.
import { open } from 'node:fs/promises';
import type { LogEntry } from '../progress.ts';
import { readEntries } from './log-file.ts';

/** Whether the file has the entry behind the note of this text; true for each entry there only once. */
export async function findRetold(path: string, note: string): Promise<(entry: LogEntry) => boolean> {
  const counts = await countBehind(path, note);
  return entry => {
    const key = keyOf(entry);
    const count = counts.get(key) ?? 0;
    if (count > 0) counts.set(key, count - 1);
    return count > 0;
  };
}

async function countBehind(path: string, note: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const file = await open(path);
  try {
    for await (const entry of readEntries(file, 0, (await file.stat()).size)) {
      if (counts.size === 0 && (entry.kind !== 'note' || entry.text !== note)) continue;
      const key = keyOf(entry);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  } finally {
    await file.close();
  }
  return counts;
}

function keyOf({ kind, platform, step, state, text, progress }: LogEntry): string {
  return JSON.stringify([kind, platform, step, state, text, progress?.current, progress?.total]);
}
