// Whatever ends a build becomes a failure that can be told, and holds no secret.
import { inspect } from 'node:util';
import { RegistryError } from '../../oci/errors.ts';
import { BackendUnavailable } from '../backend.ts';
import { BuildFailure } from '../maker.ts';
import type { Failure } from '../record.ts';
import { kindOfRegistryError } from '../registry-failure.ts';
import { type Redact, RedactionFault } from './redaction.ts';
import { UnsupportedPlatform } from './unsupported-platform.ts';

/** The failure that the error is; its cause is kept as text alone, in which secrets can be found. Throws nothing. */
export function toBuildFailure(error: unknown, redact: Redact): BuildFailure {
  try {
    return describe(error, redact);
  } catch {
    return new BuildFailure(failureOf(new RedactionFault('its failure could not be searched for secrets')));
  }
}

function describe(error: unknown, redact: Redact): BuildFailure {
  const { reason, step, ...rest } = failureOf(error);
  const failure = { ...rest, reason: oneLine(redact(reason)), ...(step !== undefined && { step: redact(step) }) };
  const cause = new Error(redact(inspect(error, { maxStringLength: Number.POSITIVE_INFINITY })));
  return new BuildFailure(failure, { cause });
}

function failureOf(error: unknown): Failure {
  if (error instanceof BuildFailure) return error.failure;
  if (error instanceof BackendUnavailable) return { kind: 'infrastructure', reason: error.message };
  if (error instanceof UnsupportedPlatform) {
    return { kind: error.isPassing ? 'infrastructure' : 'build', reason: error.message };
  }
  if (error instanceof RegistryError) {
    return { kind: kindOfRegistryError(error), reason: error.message };
  }
  if (error instanceof RedactionFault) return { kind: 'build', reason: error.message };
  return { kind: 'infrastructure', reason: 'internal error: the log of Veneer has the cause' };
}

function oneLine(text: string): string {
  return text
    .split(/[\r\n]+/)
    .map(line => line.trim())
    .join(' ');
}
