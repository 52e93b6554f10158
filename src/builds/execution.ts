// One run of a spec: what the queue gives to an executor, and how it may end.
import type { Digest } from '../oci/digest.ts';
import type { RegistryError } from '../oci/errors.ts';
import type { Report, Resume } from './progress.ts';
import type { Failure } from './record.ts';

export interface ExecuteOptions {
  /** The build's id. */
  readonly id: string;
  /** The repository and tag where the result has to be in the end, as the record's `image`. */
  readonly image: string;
  /** When it aborts, all that was started is to be stopped, processes killed, before the promise settles. */
  readonly signal: AbortSignal;
  readonly report: Report;
  readonly resume?: Resume;
  /** To be called once for each backend that works on it. */
  readonly onBackend: (name: string) => void;
}

/** Makes and pushes the image; resolves when it can be pulled. Throws BuildFailure, or the signal's reason. */
export type Execute<S> = (spec: S, options: ExecuteOptions) => Promise<{ readonly digest: Digest }>;

/** The build came to nothing. Only failures of kind `infrastructure` are tried again. */
export class BuildFailure extends Error {
  override readonly name = 'BuildFailure';
  readonly failure: Failure;

  constructor(failure: Failure, options: ErrorOptions = {}) {
    super(failure.reason, options);
    this.failure = failure;
  }
}

export function kindOfRegistryError({ status }: RegistryError): Failure['kind'] {
  return status === 429 || status >= 500 ? 'infrastructure' : 'build';
}

/** The builder is not there or does not answer. `message` is for people: what was tried, and what would help. */
export class BackendUnavailable extends Error {
  override readonly name = 'BackendUnavailable';
}

/** Throws BuildFailure for a BackendUnavailable, and everything else as it is. */
export function failUnavailable(error: unknown): never {
  if (!(error instanceof BackendUnavailable)) throw error;
  throw new BuildFailure({ kind: 'infrastructure', reason: error.message }, { cause: error });
}

/** Why a build is stopped from outside: the reason of its signal. */
export class BuildStopped extends Error {
  override readonly name = 'BuildStopped';
  /** `closing`: the service stops, and the build goes on when it starts again. */
  readonly kind: 'timeout' | 'cancelled' | 'closing';

  constructor(kind: BuildStopped['kind'], message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Whether what goes on without the service is to be left alone: the build is asked for again when that starts. */
export function isClosing({ reason }: AbortSignal): boolean {
  return reason instanceof BuildStopped && reason.kind === 'closing';
}
