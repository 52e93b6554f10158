// One backend's part of a build: prepared, built, and its tag checked.
import { formatPlatform, type Platform } from '../../oci/platform.ts';
import type { Backend, BuildInput } from '../backend.ts';
import { quoteName } from '../context/tree.ts';
import { BackendUnavailable, BuildFailure, type ExecuteOptions } from '../execution.ts';
import type { Destination } from '../images.ts';
import type { Report } from '../progress.ts';
import type { Failure } from '../record.ts';
import type { ContainerFileSpec } from '../spec.ts';
import { type BuildInputDeps, type BuildSecrets, prepareInput } from './build-input.ts';
import { type Built, checkTag } from './result.ts';

/** A build whose secrets are resolved. */
export interface Building {
  readonly spec: ContainerFileSpec;
  readonly keys: BuildSecrets;
  readonly destination: Destination;
  /** Its workspace. */
  readonly directory: string;
  /** What the builder pushes: a staged image, unless it is the final one. */
  readonly image: string;
  readonly options: ExecuteOptions;
}

export interface Part {
  readonly backend: Backend;
  readonly platforms: readonly Platform[];
  readonly image: string;
  /** Does not exist yet. */
  readonly directory: string;
}

/** The backend itself failed, or its machine, or a registry: another backend may succeed. */
export class BuilderFailure extends BuildFailure {
  readonly backend: Backend;

  constructor(failure: Failure, backend: Backend, options: ErrorOptions) {
    super(failure, options);
    this.backend = backend;
  }
}

/** Throws BuildFailure, with the platform if the part has only one, or the signal's reason. */
export async function buildPart(
  deps: BuildInputDeps,
  building: Building,
  part: Part,
  signal: AbortSignal,
): Promise<Built> {
  const { spec, keys, destination, options } = building;
  const { backend, platforms, image, directory } = part;
  const platform = onlyOf(platforms, spec);
  const withPlatform = (report: Report): Report =>
    platform === undefined ? report : event => report({ platform, ...event });
  const report = withPlatform(options.report);
  const { resume } = options;
  report({ kind: 'note', text: `${backend.name} builds ${platforms.map(formatPlatform).join(', ')}` });
  const input = await prepareInput(deps, {
    id: options.id,
    spec,
    platforms,
    image,
    directory,
    keys,
    own: backend.ownRegistry,
  });
  signal.throwIfAborted();
  checkReadable(input, backend);
  try {
    const built = {
      image,
      digest: (
        await backend.build(input, {
          signal,
          report,
          ...(resume && { resume: async note => withPlatform(await resume(note)) }),
        })
      ).digest,
    };
    await checkTag(built, destination);
    return built;
  } catch (error) {
    if (error instanceof BackendUnavailable) {
      throw new BuilderFailure({ kind: 'infrastructure', reason: error.message }, backend, { cause: error });
    }
    if (!(error instanceof BuildFailure)) throw error;
    const failure = { ...(platform !== undefined && { platform }), ...error.failure };
    if (failure.kind === 'infrastructure') throw new BuilderFailure(failure, backend, { cause: error.cause });
    throw new BuildFailure(failure, { cause: error.cause });
  }
}

/** A builder that reads the context from disk would see the wrong modes. */
function checkReadable({ contextModes }: BuildInput, { name, kind }: Backend): void {
  const [first] = contextModes ?? [];
  if (!first || kind === 'embedded') return;
  const [file, mode] = first;
  const shown = mode.toString(8).padStart(4, '0');
  const remedy = 'let its owner read it, or name it in .dockerignore';
  throw new BuildFailure({
    kind: 'build',
    reason: `build context: ${quoteName(file)}: ${name} cannot read it with its mode ${shown}, as the service is not root; ${remedy}`,
  });
}

/** The only platform of a part of a build with several. */
function onlyOf(platforms: readonly Platform[], spec: ContainerFileSpec): string | undefined {
  const [only] = platforms;
  return only && platforms.length < spec.platforms.length && platforms.length === 1 ? formatPlatform(only) : undefined;
}
