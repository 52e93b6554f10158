// One backend's part of a build: ordered, built, and its tag checked.
import { formatPlatform, type Platform } from '../../oci/platform.ts';
import type { Backend, BuildOrder } from '../backend.ts';
import { quoteName } from '../context/tree.ts';
import { BackendUnavailable, BuildFailure, type MakeOptions } from '../execution.ts';
import type { Destination } from '../images.ts';
import type { Tell } from '../progress.ts';
import type { Failure } from '../record.ts';
import type { ContainerFileSpec } from '../spec.ts';
import { type Keys, type OrdersDeps, prepareOrder } from './build-input.ts';
import { type Built, checkTag } from './result.ts';

/** A build, once what it needs is looked up. */
export interface Building {
  readonly spec: ContainerFileSpec;
  readonly keys: Keys;
  readonly destination: Destination;
  /** Its workspace. */
  readonly directory: string;
  /** What the builder pushes: not yet the image of the options where that is made of it. */
  readonly image: string;
  readonly options: MakeOptions;
}

export interface Part {
  readonly backend: Backend;
  readonly platforms: readonly Platform[];
  readonly image: string;
  /** Does not exist yet. */
  readonly directory: string;
}

/** The backend itself failed, or its machine, or a registry with it: another may succeed. */
export class BuilderFailure extends BuildFailure {
  readonly backend: Backend;

  constructor(failure: Failure, backend: Backend, options: ErrorOptions) {
    super(failure, options);
    this.backend = backend;
  }
}

/** Throws BuildFailure with its platform, if it is for one alone, or the signal's reason. */
export async function buildPart(deps: OrdersDeps, building: Building, part: Part, signal: AbortSignal): Promise<Built> {
  const { spec, keys, destination, options } = building;
  const { backend, platforms, image, directory } = part;
  const platform = onlyOf(platforms, spec);
  const name = (tell: Tell): Tell => (platform === undefined ? tell : told => tell({ platform, ...told }));
  const tell = name(options.tell);
  const { resume } = options;
  tell({ kind: 'note', text: `${backend.name} builds ${platforms.map(formatPlatform).join(', ')}` });
  const order = await prepareOrder(deps, {
    id: options.id,
    spec,
    platforms,
    image,
    directory,
    keys,
    own: backend.ownRegistry,
  });
  signal.throwIfAborted();
  refuseUnreadable(order, backend);
  try {
    const built = {
      image,
      digest: (
        await backend.build(order, { signal, tell, ...(resume && { resume: async note => name(await resume(note)) }) })
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

/** What reads the context from disk would see modes that are not its own. */
function refuseUnreadable({ contextModes }: BuildOrder, { name, kind }: Backend): void {
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

/** Its platform, where the build has others, too. */
function onlyOf(platforms: readonly Platform[], spec: ContainerFileSpec): string | undefined {
  const [only] = platforms;
  return only && platforms.length < spec.platforms.length && platforms.length === 1 ? formatPlatform(only) : undefined;
}
