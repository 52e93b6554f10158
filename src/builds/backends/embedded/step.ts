// The steps of a platform's build, named as in BuildKit, and failures with their location.
import { RegistryError } from '../../../oci/errors.ts';
import { formatPlatform, InvalidPlatform, type Platform } from '../../../oci/platform.ts';
import { type Instruction, InvalidContainerFile, InvalidSyntax } from '../../containerfile/container-file.ts';
import { BuildFailure, kindOfRegistryError } from '../../execution.ts';
import type { Report } from '../../progress.ts';
import { WorkLimitExceeded } from '../../work.ts';

/** A step cannot be done because of an error in the Containerfile or its inputs. `message` says what is wrong, but not where. */
export class InvalidStep extends Error {
  override readonly name = 'InvalidStep';
}

interface StepNames {
  /** Absent where there is one stage only. */
  readonly stage: string | undefined;
  /** How many steps the stage has. */
  readonly total: number;
}

interface Numbered {
  readonly line: number;
  readonly code: string;
}

interface StepReporter {
  /** Does the work, reports its start and end, and turns errors into a BuildFailure. */
  run<T>(step: Numbered, work: () => Promise<T>): Promise<T>;
  /** The same without reports: for work that takes no time. */
  check<T>(step: Numbered, work: () => Promise<T>): Promise<T>;
}

/** Whether the instruction creates a layer, and so is a step. */
export function isStep({ kind }: Instruction): boolean {
  return kind === 'copy' || kind === 'add' || kind === 'workdir' || kind === 'run';
}

export function createStepReporter(report: Report, platform: Platform, { stage, total }: StepNames): StepReporter {
  const name = formatPlatform(platform);
  let count = 0;

  async function check<T>(step: Numbered, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw toFailure(error, step, name);
    }
  }

  return {
    check,
    async run(step, work) {
      count += 1;
      const position = [name, ...(stage === undefined ? [] : [stage]), `${count}/${total}`].join(' ');
      const entry = { kind: 'step', platform: name, step: `[${position}] ${step.code}` } as const;
      report({ ...entry, state: 'started' });
      try {
        const result = await check(step, work);
        report({ ...entry, state: 'done' });
        return result;
      } catch (error) {
        report({ ...entry, state: 'failed' });
        throw error;
      }
    },
  };
}

const FAULTS = [InvalidStep, InvalidSyntax, WorkLimitExceeded, InvalidPlatform, RegistryError] as const;

/** Errors of the step become failures that name it; others are rethrown. */
function toFailure(cause: unknown, { line, code }: Numbered, platform: string): unknown {
  const reason = reasonOf(cause, line);
  if (reason === undefined) return cause;
  const kind = cause instanceof RegistryError ? kindOfRegistryError(cause) : 'build';
  return new BuildFailure({ kind, reason, platform, step: code }, { cause });
}

function reasonOf(cause: unknown, line: number): string | undefined {
  if (cause instanceof InvalidContainerFile) return cause.message;
  const isFault = cause instanceof Error && FAULTS.some(fault => cause instanceof fault);
  return isFault ? `line ${line}: ${cause.message}` : undefined;
}
