// The progress of a push: one step, with what buildah prints below it.
import { stripVTControlCharacters } from 'node:util';
import type { Tell } from '../../progress.ts';
import { createComplaint } from './complaint.ts';

interface PushReader {
  read(line: string): void;
  end(): void;
  fail(reason: string): void;
  /** What buildah itself said of its end, on one line; empty where it said nothing. */
  findComplaint(): string;
}

export function createPushReader(image: string, tell: Tell): PushReader {
  const step = `push ${image}`;
  const complaint = createComplaint();
  tell({ kind: 'step', step, state: 'started' });
  return {
    read(raw) {
      const line = stripVTControlCharacters(raw);
      complaint.listen(line);
      tell({ kind: 'output', step, text: line });
    },
    end: () => tell({ kind: 'step', step, state: 'done' }),
    fail: reason => tell({ kind: 'step', step, state: 'failed', text: reason }),
    findComplaint: complaint.find,
  };
}
