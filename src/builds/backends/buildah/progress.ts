// Reads the progress of a build and a push from buildah's output: a line for each step that starts, and the steps' output in between.
import { stripVTControlCharacters } from 'node:util';
import type { OutputName } from '../../process.ts';
import type { ProgressEvent, Report } from '../../progress.ts';
import { createErrorReader, createRuntimeErrorReader } from './failure.ts';

export interface StepReader {
  read(line: string, from: OutputName): void;
  /** Ends the last step: the build has ended. */
  end(): void;
  /** Ends the last step as failed. */
  fail(reason: string): void;
  /** The instruction of the last step that started, such as `RUN make`. */
  findInstruction(): string | undefined;
  /** Buildah's own error, on one line; empty if there is none. */
  findErrorText(): string;
  /** Why the runtime could not start the last step; empty if it did. */
  findRuntimeFault(): string;
}

const STEP = /^(?:\[(?<stage>\d+)\/\d+\] )?STEP (?<place>\d+\/\d+): (?<instruction>.*)$/;
const CACHED = /^--> Using cache \S+$/;
const DONE = /^--> \S+$/;
const COMMIT = /^(?:\[\d+\/\d+\] )?COMMIT(?: \S+)?$/;
const IMAGE_ID = /^[0-9a-f]{64}$/;
const LOGGED = /^time="[^"]*" level=\w+ /;
/** Arguments that buildah passes to every build. */
const UNUSED_ARGUMENTS = /^\[Warning\] one or more build args were not consumed: \[TARGET[A-Z]+(?: TARGET[A-Z]+)*\]$/;
const INSTRUCTION_LENGTH = 1_000;

/** For one platform. A RUN can print lines that look like buildah's, which spoil its own log only. */
export function createStepReader(platform: string, report: Report): StepReader {
  /** The name of the current step. */
  let current: string | undefined;
  let instruction: string | undefined;
  const complaint = createErrorReader();
  const runtime = createRuntimeErrorReader();

  function move(state: NonNullable<ProgressEvent['state']>, text?: string): void {
    if (current) report({ kind: 'step', platform, step: current, state, ...(text !== undefined && { text }) });
    if (state !== 'started') current = undefined;
  }

  function begin({ stage, place, instruction: text }: Record<string, string>): void {
    move('done');
    complaint.reset();
    runtime.reset();
    instruction = foldSpace(text ?? '').slice(0, INSTRUCTION_LENGTH);
    const stageName = stage === undefined ? '' : ` stage-${Number(stage) - 1}`;
    current = `[${platform}${stageName} ${place}] ${instruction}`;
    move('started');
  }

  function readProgress(line: string): boolean {
    const step = STEP.exec(line)?.groups;
    if (step) begin(step);
    else if (CACHED.test(line)) move('cached');
    else if (DONE.test(line) || COMMIT.test(line)) move('done');
    else return current === undefined && (IMAGE_ID.test(line) || UNUSED_ARGUMENTS.test(line));
    return true;
  }

  return {
    read(raw, from) {
      const line = stripVTControlCharacters(raw);
      if (from === 'stderr') {
        complaint.read(line);
        runtime.read(line);
      } else if (readProgress(line)) return;
      if (current && !LOGGED.test(line)) report({ kind: 'output', platform, step: current, text: line });
      else if (line !== '') report({ kind: 'note', platform, text: line });
    },
    end: () => move('done'),
    fail: reason => move('failed', reason),
    findInstruction: () => instruction,
    findErrorText: complaint.find,
    findRuntimeFault: runtime.find,
  };
}

function foldSpace(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

interface PushReader {
  read(line: string): void;
  end(): void;
  fail(reason: string): void;
  /** Buildah's own error, on one line; empty if there is none. */
  findErrorText(): string;
}

export function createPushReader(image: string, report: Report): PushReader {
  const step = `push ${image}`;
  const complaint = createErrorReader();
  report({ kind: 'step', step, state: 'started' });
  return {
    read(raw) {
      const line = stripVTControlCharacters(raw);
      complaint.read(line);
      report({ kind: 'output', step, text: line });
    },
    end: () => report({ kind: 'step', step, state: 'done' }),
    fail: reason => report({ kind: 'step', step, state: 'failed', text: reason }),
    findErrorText: complaint.find,
  };
}
