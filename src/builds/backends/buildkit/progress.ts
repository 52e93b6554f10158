// The progress of a build from the lines of `--progress=rawjson`, which buildctl and buildx write alike.
import { stripVTControlCharacters } from 'node:util';
import type { Platform } from '../../../oci/platform.ts';
import { LINE_LENGTH } from '../../process.ts';
import type { Tell } from '../../progress.ts';
import { createOutputs } from './outputs.ts';
import { findSolveStatus, type SolveStatus } from './solve-status.ts';
import { createSteps, type FailedStep } from './steps.ts';

/** A line of progress holds many steps and their output: it may be longer than a line of text. */
export const PROGRESS_LINE_LENGTH = 4 * 1024 * 1024;

export interface ProgressReader {
  /** One line of the command's output. One that is no status becomes a note. */
  read(line: string): void;
  end(): void;
  findFailed(): FailedStep | undefined;
  /** What the command itself said last, from its last `error:` on; empty where it said nothing. */
  findComplaint(): string;
}

export function createProgressReader(platforms: readonly Platform[], tell: Tell): ProgressReader {
  const steps = createSteps(platforms, tell);
  const outputs = createOutputs(tell, steps.describe);
  let complaint = '';

  function note(line: string): void {
    const text = stripVTControlCharacters(line).slice(0, LINE_LENGTH);
    if (text.trim() === '') return;
    complaint = /^error:/i.test(text) || !/^error:/i.test(complaint) ? text : complaint;
    tell({ kind: 'note', text });
  }

  function take(status: SolveStatus): void {
    for (const vertex of status.vertexes ?? []) {
      if (vertex.completed) outputs.end(vertex.digest);
      steps.update(vertex);
    }
    for (const count of status.statuses ?? []) steps.count(count);
    for (const log of status.logs ?? []) outputs.write(log);
    for (const { short } of status.warnings ?? []) {
      tell({ kind: 'note', text: `warning: ${oneLine(Buffer.from(short, 'base64').toString())}` });
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
    findComplaint: () => complaint,
  };
}

function oneLine(text: string): string {
  return stripVTControlCharacters(text).replace(/\s+/g, ' ').trim().slice(0, LINE_LENGTH);
}
