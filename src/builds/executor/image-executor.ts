// The executor of Containerfiles: builds an image or an index, checks it, and tags it in its repository.
import { join } from 'node:path';
import { inspect } from 'node:util';
import type { Digest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import type { Backend } from '../backend.ts';
import { type BaseLookup, lookUpBases } from '../bases.ts';
import {
  BackendUnavailable,
  BuildFailure,
  type Execute,
  type ExecuteOptions,
  isClosing,
  kindOfRegistryError,
} from '../execution.ts';
import type { OpenDestination } from '../images.ts';
import { listBaseUses } from '../needs.ts';
import type { Report } from '../progress.ts';
import type { Failure } from '../record.ts';
import { InvalidBuild } from '../request.ts';
import type { ContainerFileSpec } from '../spec.ts';
import { type BuildSecrets, withSecrets } from './build-input.ts';
import { buildParts, type FanOutDeps, removeTag } from './fan-out.ts';
import { BuilderFailure, type Building } from './part.ts';
import { type Platforms, UnsupportedPlatform } from './platforms.ts';
import { createRedaction, type Redact, RedactionError } from './redaction.ts';
import { type Built, checkPlatforms, checkTag, tagOf } from './result.ts';
import type { Workspaces } from './workspace.ts';

export interface ImageExecutorDeps extends FanOutDeps {
  /** Whether the repository is hosted here: then an image gets its tag only after it was checked. */
  readonly isHosted: (repository: string) => boolean;
  readonly openDestination: OpenDestination;
  readonly images: BaseLookup;
  readonly platforms: Pick<Platforms, 'assign'>;
  readonly workspaces: Workspaces;
  readonly finish: Finish;
}

/** Applies changes to an image, and pushes the result as `image`. Throws BuildFailure, or the signal's reason. */
type Finish = (input: FinishInput) => Promise<Digest>;

export interface FinishInput extends Pick<ExecuteOptions, 'image' | 'signal' | 'report' | 'confirm'> {
  /** The image that was built, with the full name of its repository. */
  readonly source: { readonly repository: string; readonly digest: Digest };
  readonly changes: Changes;
}

type Changes = NonNullable<ContainerFileSpec['changes']>;

/** Nothing that it reports or throws holds a secret of the build. */
export function createImageExecutor(deps: ImageExecutorDeps): Execute<ContainerFileSpec> {
  return async (spec, options) => {
    const { id, image } = options;
    let redact: Redact = text => text;
    try {
      const destination = deps.openDestination(spec.target.repository);
      const isInUse = () => continuesWithoutUs(deps, spec, options.signal);
      const { digest } = await withSecrets(deps, { spec, image, isInUse }, async keys => {
        redact = createRedaction(secretsOf(keys));
        return deps.workspaces.use(id, directory =>
          buildImage(deps, { spec, keys, directory, destination, image, options: redactReports(options, redact) }),
        );
      });
      return { digest };
    } catch (error) {
      options.signal.throwIfAborted();
      throw toBuildFailure(error, redact);
    }
  };
}

/** Whether a builder continues while the service stops. */
async function continuesWithoutUs(
  { platforms }: ImageExecutorDeps,
  spec: ContainerFileSpec,
  signal: AbortSignal,
): Promise<boolean> {
  if (!isClosing(signal)) return false;
  const assigned = await platforms.assign(spec).catch(() => undefined);
  return assigned?.keys().some(({ survivesRestart }) => survivesRestart === true) ?? false;
}

async function buildImage(deps: ImageExecutorDeps, building: Building): Promise<Built> {
  const { spec, options } = building;
  const { repository } = spec.target;
  // Another registry may not let us remove a tag: there, an image without changes gets its final tag at once.
  const isStaged = spec.changes !== undefined || deps.isHosted(repository);
  const image = isStaged ? `${repository}:${options.id}.unfinished` : building.image;
  await checkLateBases(spec, deps.images);
  const built = await buildOnAny(deps, { ...building, image });
  try {
    await checkPlatforms(spec, built, deps.images);
    return isStaged ? await finish(deps, building, built) : built;
  } finally {
    if (isStaged) await removeTag(deps, building, image);
  }
}

/** Checks the bases that the plan could not resolve. One that still cannot be resolved is left to the builder. */
async function checkLateBases(spec: ContainerFileSpec, images: BaseLookup): Promise<void> {
  try {
    const late = listBaseUses(spec).filter(({ reference }) => !Object.hasOwn(spec.bases, reference));
    await lookUpBases(late, images);
  } catch (error) {
    if (error instanceof InvalidBuild)
      throw new BuildFailure({ kind: 'build', reason: error.message }, { cause: error });
    throw error;
  }
}

/** If a builder fails for reasons of its own or its machine, the next one that can build the spec takes over. */
async function buildOnAny(deps: ImageExecutorDeps, building: Building): Promise<Built> {
  const failed = new Set<Backend>();
  let assigned = await deps.platforms.assign(building.spec);
  for (;;) {
    try {
      const directory = join(building.directory, `${failed.size + 1}`);
      return await buildParts(deps, { ...building, directory }, assigned);
    } catch (error) {
      if (!(error instanceof BuilderFailure) || building.options.signal.aborted) throw error;
      failed.add(error.backend);
      const others = await deps.platforms.assign(building.spec, failed).catch(() => undefined);
      if (!others) throw error;
      const names = [...others.keys()].map(({ name }) => name).join(', ');
      building.options.report({
        kind: 'note',
        text: `${error.backend.name} failed: ${error.message}; ${names} continues`,
      });
      assigned = others;
    }
  }
}

async function finish(deps: ImageExecutorDeps, building: Building, built: Built): Promise<Built> {
  const { spec, image, destination, options } = building;
  const source = { repository: spec.target.repository, digest: built.digest };
  if (!spec.changes) return tagBuilt(deps, building, built);
  const finished = { image, digest: await deps.finish({ ...options, source, changes: spec.changes, image }) };
  await checkTag(finished, destination);
  return finished;
}

async function tagBuilt({ images }: ImageExecutorDeps, building: Building, built: Built): Promise<Built> {
  const { image, destination, options } = building;
  const { root } = await images.open(built.image, built.digest);
  const { raw, mediaType, digest } = root;
  await options.confirm?.();
  await destination.putManifest({ raw, mediaType, digest, tags: [tagOf(image)] });
  return { image, digest };
}

function secretsOf({ secrets, credentials }: BuildSecrets): readonly (string | Uint8Array)[] {
  const passwords = [...credentials.values()].flatMap(({ username, password }) => [
    password,
    // As in an HTTP header.
    Buffer.from(`${username}:${password}`).toString('base64'),
  ]);
  return [...secrets.values(), ...passwords];
}

function redactReports(options: ExecuteOptions, redact: Redact): ExecuteOptions {
  const { resume } = options;
  const withRedaction =
    (report: Report): Report =>
    ({ text, step, ...event }) =>
      report({
        ...event,
        ...(step !== undefined && { step: redact(step) }),
        ...(text !== undefined && { text: redact(text) }),
      });
  return {
    ...options,
    report: withRedaction(options.report),
    ...(resume && { resume: async note => withRedaction(await resume(note)) }),
  };
}

/** The failure that an error means; its cause is kept as redacted text only. Never throws. */
function toBuildFailure(error: unknown, redact: Redact): BuildFailure {
  try {
    return describe(error, redact);
  } catch {
    return new BuildFailure(failureOf(new RedactionError('its failure could not be searched for secrets')));
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
    return { kind: error.isTransient ? 'infrastructure' : 'build', reason: error.message };
  }
  if (error instanceof RegistryError) {
    return { kind: kindOfRegistryError(error), reason: error.message };
  }
  if (error instanceof RedactionError) return { kind: 'build', reason: error.message };
  return { kind: 'infrastructure', reason: 'internal error: the log of Veneer has the cause' };
}

function oneLine(text: string): string {
  return text
    .split(/[\r\n]+/)
    .map(line => line.trim())
    .join(' ');
}
