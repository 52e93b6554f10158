// The requirements of a Containerfile on a builder: the instructions of the stages that the target needs, and the images that it may read.
import { parsePlatform } from '../oci/platform.ts';
import { type BaseUse, findBases } from './containerfile/bases.ts';
import { type ContainerFile, type Instruction, InvalidContainerFile } from './containerfile/container-file.ts';
import { parseContainerFile } from './containerfile/parse.ts';
import { effectiveInstructions, findTarget, globalScope, neededStages, resolveBase } from './containerfile/stages.ts';
import { BuildFailure } from './execution.ts';
import type { ContainerFileSpec } from './spec.ts';
import { WorkLimitExceeded } from './work.ts';

export interface Needs {
  /** The frontend named by the file or an argument; undefined for the builder's own, or Docker's. */
  readonly frontend: string | undefined;
  /** Of the stages that the target needs, for any of the platforms. Triggers of bases are not among them. */
  readonly steps: readonly Instruction[];
}

const OFFICIAL_SYNTAX = /^(?:docker\.io\/)?docker\/dockerfile(?:-upstream)?(?:[:@]|$)/;
/** Cached: every builder needs it, and a long file takes time to parse. */
const found = new WeakMap<ContainerFileSpec, { readonly needs: Needs | undefined }>();

/** Undefined for a file that is invalid or exceeds a limit: the build reports what is wrong with it. */
export function findNeeds(spec: ContainerFileSpec): Needs | undefined {
  const known = found.get(spec) ?? { needs: readNeeds(spec) };
  found.set(spec, known);
  return known.needs;
}

function readNeeds(spec: ContainerFileSpec): Needs | undefined {
  try {
    const file = parseContainerFile(spec.containerFile);
    const syntax = Object.hasOwn(spec.args, 'BUILDKIT_SYNTAX') ? spec.args.BUILDKIT_SYNTAX : file.syntax?.value;
    const steps = new Set(spec.platforms.flatMap(platform => listSteps(file, platform, spec)));
    return { frontend: syntax && !OFFICIAL_SYNTAX.test(syntax) ? syntax : undefined, steps: [...steps] };
  } catch (error) {
    if (error instanceof InvalidContainerFile || error instanceof WorkLimitExceeded) return undefined;
    throw error;
  }
}

function listSteps(file: ContainerFile, platform: string, spec: ContainerFileSpec): readonly Instruction[] {
  const target = parsePlatform(platform);
  const scope = globalScope(file, { build: target, target }, spec);
  return neededStages(file, findTarget(file, spec.stage), scope).flatMap(index =>
    effectiveInstructions(file, index, resolveBase(file, index, scope)),
  );
}

/**
 * The images that a build may read, by their names in the Containerfile: those that the plan has checked on behalf of the caller. A trigger
 * of a base, or a frontend, may name others. Throws BuildFailure for an invalid Containerfile.
 */
export function listReadImages(spec: ContainerFileSpec): readonly string[] {
  return listBaseUses(spec).map(({ reference }) => reference);
}

/** The same with the line and the platforms of each. */
export function listBaseUses({ containerFile, args, stage, platforms }: ContainerFileSpec): readonly BaseUse[] {
  const options = { args, stage, platforms: platforms.map(parsePlatform) };
  try {
    return findBases(parseContainerFile(containerFile), options);
  } catch (error) {
    if (!(error instanceof InvalidContainerFile)) throw error;
    throw new BuildFailure({ kind: 'build', reason: error.message }, { cause: error });
  }
}

/** The message for an image that may not be read. */
export function describeDeniedImage(image: string): string {
  return `${image} may not be read: only a trigger of a base image or a frontend names it, not the Containerfile; name it with FROM or COPY --from`;
}
