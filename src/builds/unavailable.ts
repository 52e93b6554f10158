// A builder that cannot be reached while it builds: a failure of that build, which another attempt may cure.
import { BackendUnavailable } from './backend.ts';
import { BuildFailure } from './maker.ts';

/** Throws BuildFailure for a BackendUnavailable, and everything else as it is. */
export function failUnavailable(error: unknown): never {
  if (!(error instanceof BackendUnavailable)) throw error;
  throw new BuildFailure({ kind: 'infrastructure', reason: error.message }, { cause: error });
}
