// Reads the progress of a build from `--progress=rawjson`, which buildctl and buildx write alike. The output of steps comes in chunks that end
// anywhere, and is split into lines.
import { stripVTControlCharacters } from 'node:util';
import type { Platform } from '../../../oci/platform.ts';
import { createLineSplitter, LINE_LENGTH, type LineSplitter } from '../../process.ts';
import type { ProgressEvent, Report } from '../../progress.ts';
import { createSteps, type FailedStep, findSolveStatus, type SolveStatus, type VertexLog } from './steps.ts';

/** A line of progress holds many steps and their output, and may be much longer than a line of text. */
export const PROGRESS_LINE_LENGTH = 4 * 1024 * 1024;

export interface ProgressReader {
  /** Takes one line of the command's output. A line that is no status becomes a note. */
  read(line: string): void;
  end(): void;
  findFailed(): FailedStep | undefined;
  /** The last error that the command itself printed; empty if there is none. */
  findErrorText(): string;
}

export function createProgressReader(platforms: readonly Platform[], report: Report): ProgressReader {
  const steps = createSteps(platforms, report);
  const outputs = createOutputs(report, steps.describe);
  let complaint = '';

  function note(line: string): void {
    const text = stripVTControlCharacters(line).slice(0, LINE_LENGTH);
    if (text.trim() === '') return;
    complaint = /^error:/i.test(text) || !/^error:/i.test(complaint) ? text : complaint;
    report({ kind: 'note', text });
  }

  function take(status: SolveStatus): void {
    for (const vertex of status.vertexes ?? []) {
      if (vertex.completed) outputs.end(vertex.digest);
      steps.update(vertex);
    }
    for (const count of status.statuses ?? []) steps.count(count);
    for (const log of status.logs ?? []) outputs.write(log);
    for (const { short } of status.warnings ?? []) {
      report({ kind: 'note', text: `warning: ${oneLine(Buffer.from(short, 'base64').toString())}` });
    }
  }

  return {
    read(line) {
      const status = findSolveStatus(line);
      if (status) take(status);
      else note(line);
    },
    end: outputs.endAll,
    findFailed: steps.findFailed,
    findErrorText: () => complaint,
  };
}

function oneLine(text: string): string {
  return stripVTControlCharacters(text).replace(/\s+/g, ' ').trim().slice(0, LINE_LENGTH);
}

interface Outputs {
  write(log: VertexLog): void;
  /** Reports output of a step without a final line break. */
  end(vertex: string): void;
  endAll(): void;
}

const STREAMS = [1, 2] as const;
/** Of steps with output at the same time. */
const MAX_OPEN = 1_000;

function createOutputs(
  report: Report,
  describe: (vertex: string) => Pick<ProgressEvent, 'platform' | 'step'>,
): Outputs {
  const open = new Map<string, LineSplitter>();

  function splitterOf(vertex: string, key: string): LineSplitter {
    const splitter =
      open.get(key) ??
      createLineSplitter(line => {
        report({ kind: 'output', ...describe(vertex), text: stripVTControlCharacters(line) });
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
