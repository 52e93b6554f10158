// The common interface of all builders, checked by test/contract/build-backend.ts, and the detection of this machine's builders.
import type { Digest } from '../oci/digest.ts';
import type { Platform } from '../oci/platform.ts';
import type { Environment } from './process.ts';
import type { Report, Resume } from './progress.ts';
import type { ContainerFileSpec } from './spec.ts';

export interface Backend {
  /** Names it in logs and messages; unique among the configured ones. */
  readonly name: string;
  readonly kind: BackendKind;
  /** Whether one build can cover several platforms; otherwise each platform is built separately, and their images are joined. */
  readonly isMultiPlatform: boolean;
  /** Whether the platforms of a build that is not multi-platform are built at the same time; absent: one after the other. */
  readonly isParallel?: boolean;
  /** Whether its work continues while the service is down, and the next `build` of the same input picks it up. */
  readonly survivesRestart?: boolean;
  /** How it reaches Veneer, if different from other builders. */
  readonly ownRegistry?: OwnRegistry;
  /** The platforms that it can currently build for, normalised. Throws BackendUnavailable if it does not answer. */
  listPlatforms(signal: AbortSignal): Promise<readonly Platform[]>;
  /** Why it cannot build this spec on any platform, such as "RUN needs a builder: install BuildKit, …"; undefined where it can. */
  findUnsupportedReason(spec: ContainerFileSpec): string | undefined;
  /** Display texts: known restrictions of RUN on this builder, and what it is not isolated from. */
  readonly listNotes?: () => readonly string[];
  /** How long `listPlatforms` may take; absent: the default of all builders. */
  readonly answerTimeoutMs?: number;
  /** Builds and pushes. Throws BuildFailure, or the signal's reason once all that it started has ended. */
  build(input: BuildInput, options: BuildOptions): Promise<BuildResult>;
  /** Removes work of an earlier process whose build is neither queued nor running. */
  sweep?(isUnderWay: IsUnderWay): Promise<void>;
  close(): Promise<void>;
}

/** Whether a build, by its id, is queued or running. */
export type IsUnderWay = (id: string) => Promise<boolean>;

const backendKinds = ['buildkit', 'docker', 'buildah', 'kubernetes', 'embedded'] as const;

type BackendKind = (typeof backendKinds)[number];

export interface BuildOptions {
  readonly signal: AbortSignal;
  readonly report: Report;
  /** Absent if no earlier process has reported progress of this build. */
  readonly resume?: Resume;
}

/** The input of a builder: a spec with everything resolved. It contains secrets, and is never stored. */
export interface BuildInput {
  /** The build's id. */
  readonly id: string;
  readonly spec: ContainerFileSpec;
  /** Those of the spec's platforms that this backend is to build, at least one. */
  readonly platforms: readonly Platform[];
  /**
   * Private to this build, and removed after it: `context/` is the unpacked build context, `Containerfile` the file. The backend may add to
   * it.
   */
  readonly directory: string;
  /** The original modes, by name, of entries of `context/` that were unpacked with a different one so that the service can read them. */
  readonly contextModes?: ReadonlyMap<string, number> | undefined;
  readonly target: PushTarget;
  readonly cache: PushTarget | undefined;
  /** The pinned base images, by their names in the Containerfile. */
  readonly bases: ReadonlyMap<string, PinnedBase>;
  /** The values of the spec's secrets by their ids. */
  readonly secrets: ReadonlyMap<string, Uint8Array>;
  /** For each of the spec's ssh ids, the path of an agent's socket or of a key. */
  readonly ssh: ReadonlyMap<string, string>;
  /** Credentials by host, for the registries that the build pulls from and pushes to. */
  readonly credentials: ReadonlyMap<string, BuildCredentials>;
}

export interface OwnRegistry {
  /** `host[:port]`. */
  readonly host: string;
  /** Whether it speaks plain HTTP there. */
  readonly isInsecure: boolean;
}

/** A reference as builders use it. */
export interface PushTarget {
  /** `host[:port]/repository:tag`. */
  readonly name: string;
  /** The same as Veneer knows it: `local/builds:tag`. */
  readonly image: string;
  /** Whether the registry speaks plain HTTP. */
  readonly isInsecure: boolean;
}

/** A base image as builders refer to it: hosted ones are read through Veneer. */
export interface PinnedBase {
  /** `host[:port]/repository@digest`. */
  readonly name: string;
  /** Whether the registry speaks plain HTTP. */
  readonly isInsecure: boolean;
}

export interface BuildCredentials {
  readonly username: string;
  readonly password: string;
}

export interface BuildResult {
  /** The digest of the pushed manifest or index. */
  readonly digest: Digest;
}

export interface DetectOptions {
  readonly environment: Environment;
  readonly signal: AbortSignal;
  /** Called for a detection that failed unexpectedly; the others still count. */
  readonly onError?: (error: unknown) => void;
  /** Called with the reason why a builder is not available, in one line. */
  readonly onMiss: (reason: string) => void;
}

/** Looks for one kind of builder; undefined if it is absent or does not answer within seconds. Throws only the signal's reason. */
export type Detect = (options: DetectOptions) => Promise<Backend | undefined>;

/** The available ones, in the order of the list; detected concurrently. */
export async function detectBackends(detects: readonly Detect[], options: DetectOptions): Promise<readonly Backend[]> {
  const found = await Promise.all(
    detects.map(async detect => {
      try {
        return await detect(options);
      } catch (error) {
        options.signal.throwIfAborted();
        options.onError?.(error);
        return undefined;
      }
    }),
  );
  return found.filter(backend => backend !== undefined);
}
