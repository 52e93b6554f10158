// What the steps print, as lines: BuildKit sends it in pieces that end anywhere.
import { stripVTControlCharacters } from 'node:util';
import { createLineSplitter, type LineSplitter } from '../../lines.ts';
import { LINE_LENGTH } from '../../process.ts';
import type { Tell, Told } from '../../progress.ts';
import type { VertexLog } from './solve-status.ts';

interface Outputs {
  write(log: VertexLog): void;
  /** Tells what a step printed without a line break at the end. */
  end(vertex: string): void;
  endAll(): void;
}

const STREAMS = [1, 2] as const;
/** Of steps that print at the same time. */
const MAX_OPEN = 1_000;

export function createOutputs(tell: Tell, describe: (vertex: string) => Pick<Told, 'platform' | 'step'>): Outputs {
  const open = new Map<string, LineSplitter>();

  function splitterOf(vertex: string, key: string): LineSplitter {
    const splitter =
      open.get(key) ??
      createLineSplitter(line => {
        tell({ kind: 'output', ...describe(vertex), text: stripVTControlCharacters(line) });
      }, LINE_LENGTH);
    if (open.size < MAX_OPEN) open.set(key, splitter);
    return splitter;
  }

  function close(key: string): void {
    open.get(key)?.end();
    open.delete(key);
  }

  return {
    write({ vertex, stream, data }) {
      const key = keyOf(vertex, stream);
      const splitter = splitterOf(vertex, key);
      splitter.write(Buffer.from(data ?? '', 'base64'));
      if (!open.has(key)) splitter.end();
    },
    end(vertex) {
      for (const stream of STREAMS) close(keyOf(vertex, stream));
    },
    endAll() {
      for (const key of [...open.keys()]) close(key);
    },
  };
}

function keyOf(vertex: string, stream: number): string {
  return `${vertex} ${stream}`;
}
