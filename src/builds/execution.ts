// One execution of a spec: the options that the queue passes to an executor, and how it may fail or be stopped.
import type { Digest } from '../oci/digest.ts';
import type { RegistryError } from '../oci/errors.ts';
import type { Report, Resume } from './progress.ts';
import type { Failure } from './record.ts';

export interface ExecuteOptions {
  /** The build's id. */
  readonly id: string;
  /** The repository and tag of the result, as the record's `image`. */
  readonly image: string;
  /** On abort, everything that was started is stopped, processes included, before the promise settles. */
  readonly signal: AbortSignal;
  readonly report: Report;
  readonly resume?: Resume;
  /** To be awaited right before the image gets its tag. Throws the signal's reason where another process has taken the build over. */
  readonly confirm?: () => Promise<void>;
  /** Called once for each backend that works on the build. */
  readonly onBackend: (name: string) => void;
}

/** The pushed image. */
export interface Executed {
  readonly digest: Digest;
  /** Of a copy: the platforms that its index names. */
  readonly platforms?: readonly string[];
}

/** Builds and pushes the image; resolves once it can be pulled. Throws BuildFailure, or the signal's reason. */
export type Execute<S> = (spec: S, options: ExecuteOptions) => Promise<Executed>;

/** The build failed. Only failures of kind `infrastructure` are retried. */
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

/** The builder is absent or does not answer. The message says what was tried, and the remedy. */
export class BackendUnavailable extends Error {
  override readonly name = 'BackendUnavailable';
}

/** Throws BuildFailure for a BackendUnavailable, since a retry may help, and everything else unchanged. */
export function failUnavailable(error: unknown): never {
  if (!(error instanceof BackendUnavailable)) throw error;
  throw new BuildFailure({ kind: 'infrastructure', reason: error.message }, { cause: error });
}

/** Why a build is stopped from outside: the reason of its signal. */
export class BuildStopped extends Error {
  override readonly name = 'BuildStopped';
  /** `closing`: the service is stopping, and resumes the build at its next start. */
  readonly kind: 'timeout' | 'cancelled' | 'closing';

  constructor(kind: BuildStopped['kind'], message: string) {
    super(message);
    this.kind = kind;
  }
}

/** Whether work that survives a restart should be left running, as the build is resumed at the next start of the service. */
export function isClosing({ reason }: AbortSignal): boolean {
  return reason instanceof BuildStopped && reason.kind === 'closing';
}
