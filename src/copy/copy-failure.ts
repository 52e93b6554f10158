// What the failure of a copy is to who asked for it.
import { BuildFailure, kindOfRegistryError } from '../builds/execution.ts';
import type { Failure } from '../builds/record.ts';
import { RegistryError } from '../oci/errors.ts';
import { ContentMismatch } from '../oci/verify.ts';

/** A BuildFailure is returned as it is. An error that no client can know of is told by its kind alone: its message may name our files. */
export function copyFailure(error: unknown, where: Pick<Failure, 'platform' | 'step'> = {}): BuildFailure {
  if (error instanceof BuildFailure) return error;
  return new BuildFailure({ ...where, kind: kindOf(error), reason: reasonOf(error) }, { cause: error });
}

/** What may be otherwise the next time is of the infrastructure: a registry that fails, limits us, or sends other bytes than it promised. */
function kindOf(error: unknown): Failure['kind'] {
  if (!(error instanceof RegistryError) || error.cause instanceof ContentMismatch) return 'infrastructure';
  return kindOfRegistryError(error);
}

function reasonOf(error: unknown): string {
  if (error instanceof RegistryError || error instanceof ContentMismatch) return error.message.replace(/\s+/g, ' ');
  return `the copy failed (${error instanceof Error ? error.name : 'no error'})`;
}
