// Why a build ended without an image, in one line for people.
import { RegistryError } from '../../oci/errors.ts';
import { BuildFailure } from '../maker.ts';
import type { Failure } from '../record.ts';
import type { Redact } from './log-entry.ts';

/** What a maker threw that was not stopped. A fault that nobody has foreseen is for the service's log alone. */
export function failureOf(error: unknown): Failure {
  if (error instanceof BuildFailure) return error.failure;
  if (error instanceof RegistryError) return { kind: 'infrastructure', reason: error.message };
  return { kind: 'infrastructure', reason: 'an unexpected fault, of which the log of the service says more' };
}

const MAX_LENGTH = 1000;

/** A failure as it may be kept: without secrets, its texts one line each and bounded. */
export function presentFailure(failure: Failure, redact: Redact): Failure {
  const line = (text: string) => {
    const whole = redact(text)
      .replaceAll(/[\s\p{Cc}]+/gu, ' ')
      .trim();
    return whole.length > MAX_LENGTH ? `${whole.slice(0, MAX_LENGTH).toWellFormed()}…` : whole;
  };
  const { step, reason } = failure;
  return { ...failure, reason: line(reason), ...(step !== undefined && { step: line(step) }) };
}

/** The last line of a failed build's log. */
export function describeFailure({ kind, reason, platform, step }: Failure): string {
  const where = [platform, step].filter(part => part !== undefined).join(', ');
  return `failed (${kind}): ${where === '' ? reason : `${where}: ${reason}`}`;
}
