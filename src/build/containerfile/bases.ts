// The images outside of a Containerfile that a build of it can reach: what is to be resolved before it, and decides its id.
import type { Platform } from '../../oci/platform.ts';
import { TooMuchWork } from '../work.ts';
import type { ContainerFile } from './container-file.ts';
import { globalScope } from './global-scope.ts';
import { InvalidContainerFile } from './invalid.ts';
import { trimSpace } from './space.ts';
import { findTarget, neededStages, sourcesOf } from './stages.ts';

export interface BaseUse {
  /** The name as it is written, variables expanded. */
  readonly reference: string;
  /** Where it is used first. */
  readonly line: number;
}

export interface BasesOptions {
  readonly args: Readonly<Record<string, string>>;
  /** The target stage; undefined: the last. */
  readonly stage: string | undefined;
  /** What is to be built, at least one. */
  readonly platforms: readonly Platform[];
  /** What the building machine is; default: linux/amd64. */
  readonly buildPlatform?: Platform;
}

/** Each is asked for at its registry. */
const MAX_BASES = 100;

/** The build's argument that names another frontend than the file does. */
const SYNTAX_ARG = 'BUILDKIT_SYNTAX';

/**
 * Each name once, in the order of their lines; of the frontend too. Stages that the target does not need are left out, and so are triggers of
 * images, which nobody knows yet. Throws InvalidContainerFile.
 */
export function findBases(file: ContainerFile, options: BasesOptions): readonly BaseUse[] {
  try {
    return collectBases(file, options);
  } catch (error) {
    throw error instanceof TooMuchWork ? new InvalidContainerFile(error.message) : error;
  }
}

function collectBases(file: ContainerFile, options: BasesOptions): readonly BaseUse[] {
  const uses = [
    ...findSyntax(file, options.args),
    ...options.platforms.flatMap(target => findFor(file, target, options)),
  ];
  const lines = new Map<string, number>();
  for (const { reference, line } of uses) lines.set(reference, Math.min(line, lines.get(reference) ?? line));
  if (lines.size > MAX_BASES)
    throw new InvalidContainerFile(`it reads ${lines.size} images; at most ${MAX_BASES} are looked up for a build`);
  return [...lines].map(([reference, line]) => ({ reference, line })).sort((a, b) => a.line - b.line);
}

function findSyntax(file: ContainerFile, args: BasesOptions['args']): readonly BaseUse[] {
  const given = Object.hasOwn(args, SYNTAX_ARG) ? trimSpace(args[SYNTAX_ARG] ?? '').split(' ', 1)[0] : undefined;
  if (given) return [{ reference: given, line: 1 }];
  return file.syntax ? [{ reference: file.syntax.value, line: file.syntax.line }] : [];
}

function findFor(file: ContainerFile, target: Platform, options: BasesOptions): readonly BaseUse[] {
  const build = options.buildPlatform ?? { os: 'linux', architecture: 'amd64' };
  const scope = globalScope(file, { build, target }, options);
  const stages = neededStages(file, findTarget(file, options.stage), scope);
  return stages
    .flatMap(index => sourcesOf(file, index, scope))
    .flatMap(source => (source.kind === 'image' ? { reference: source.reference, line: source.line } : []));
}
