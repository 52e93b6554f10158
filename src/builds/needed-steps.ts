// The instructions that a build comes to: what a builder has to be able to do.
import { parsePlatform } from '../oci/platform.ts';
import type { ContainerFile } from './containerfile/container-file.ts';
import { globalScope } from './containerfile/global-scope.ts';
import type { Instruction } from './containerfile/instruction.ts';
import { InvalidContainerFile } from './containerfile/invalid.ts';
import { parseContainerFile } from './containerfile/parse.ts';
import { effectiveInstructions, findTarget, neededStages, resolveBase } from './containerfile/stages.ts';
import type { ContainerFileSpec } from './spec.ts';
import { TooMuchWork } from './work.ts';

export interface Needs {
  /** The frontend that the file or an argument names; undefined for that of the builder, or Docker's. */
  readonly frontend: string | undefined;
  /** Of the stages that the target needs, for any of the platforms. Triggers of bases are not among them. */
  readonly steps: readonly Instruction[];
}

const OFFICIAL_SYNTAX = /^(?:docker\.io\/)?docker\/dockerfile(?:-upstream)?(?:[:@]|$)/;

/** Every builder asks, and a long file takes its time: it is read once. */
const found = new WeakMap<ContainerFileSpec, { readonly needs: Needs | undefined }>();

/** Undefined for a file that is invalid, or asks for too much: the build says what is wrong with it. */
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
    if (error instanceof InvalidContainerFile || error instanceof TooMuchWork) return undefined;
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
