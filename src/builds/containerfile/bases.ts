// The external images that a build of a Containerfile may use: resolved before the build, and part of its id.
import { formatPlatform, InvalidPlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import { WorkLimitExceeded } from '../work.ts';
import { atLine, type ContainerFile, InvalidContainerFile } from './container-file.ts';
import { expandWord } from './expand.ts';
import { trimSpace } from './scanner.ts';
import { findTarget, getStage, globalScope, neededStages, sourcesOf } from './stages.ts';

export interface BaseUse {
  /** The name as written, with variables expanded. */
  readonly reference: string;
  /** Where it is first used. */
  readonly line: number;
  /** The platforms it is used for, without duplicates; without the builder's, which is not known yet. */
  readonly platforms: readonly Platform[];
}

/** A single use. */
interface Use {
  readonly reference: string;
  readonly line: number;
  readonly platform: Platform | undefined;
}

export interface BasesOptions {
  readonly args: Readonly<Record<string, string>>;
  /** The target stage; undefined: the last. */
  readonly stage: string | undefined;
  /** The platforms to build, at least one. */
  readonly platforms: readonly Platform[];
  /** The platform of the building machine; default: linux/amd64. */
  readonly buildPlatform?: Platform;
}

/** Each costs a request to its registry. */
const MAX_BASES = 100;

/** The build argument that selects a frontend, overriding that of the file. */
const SYNTAX_ARG = 'BUILDKIT_SYNTAX';

/**
 * Each name once, in the order of their lines, including the frontend. Stages that the target does not need are omitted, as are triggers of
 * base images, which are not known yet. Throws InvalidContainerFile.
 */
export function findBases(file: ContainerFile, options: BasesOptions): readonly BaseUse[] {
  try {
    return collectBases(file, options);
  } catch (error) {
    throw error instanceof WorkLimitExceeded ? new InvalidContainerFile(error.message) : error;
  }
}

function collectBases(file: ContainerFile, options: BasesOptions): readonly BaseUse[] {
  const uses = [
    ...findSyntax(file, options.args),
    ...options.platforms.flatMap(target => findFor(file, target, options)),
  ];
  const named = [...Map.groupBy(uses, ({ reference }) => reference)];
  if (named.length > MAX_BASES)
    throw new InvalidContainerFile(`it uses ${named.length} images, more than the limit of ${MAX_BASES} for a build`);
  return named
    .map(([reference, some]) => ({
      reference,
      line: Math.min(...some.map(({ line }) => line)),
      platforms: eachOnce(some.flatMap(({ platform }) => platform ?? [])),
    }))
    .sort((a, b) => a.line - b.line);
}

function eachOnce(platforms: readonly Platform[]): readonly Platform[] {
  return [...new Map(platforms.map(platform => [formatPlatform(platform), platform])).values()];
}

function findSyntax(file: ContainerFile, args: BasesOptions['args']): readonly Use[] {
  const given = Object.hasOwn(args, SYNTAX_ARG) ? trimSpace(args[SYNTAX_ARG] ?? '').split(' ', 1)[0] : undefined;
  if (given) return [{ reference: given, line: 1, platform: undefined }];
  return file.syntax ? [{ reference: file.syntax.value, line: file.syntax.line, platform: undefined }] : [];
}

function findFor(file: ContainerFile, target: Platform, options: BasesOptions): readonly Use[] {
  const build = options.buildPlatform ?? { os: 'linux', architecture: 'amd64' };
  const scope = globalScope(file, { build, target }, options);
  const elsewhere = globalScope(file, { build: NOWHERE, target }, options);
  const stages = neededStages(file, findTarget(file, options.stage), scope);
  return stages.flatMap(index => {
    const own = platformOf(file, index, target, [scope, elsewhere]);
    // Images only copied from have the platform of the result.
    return sourcesOf(file, index, scope).flatMap((source, i) =>
      source.kind === 'image'
        ? { reference: source.reference, line: source.line, platform: i === 0 ? own : target }
        : [],
    );
  });
}

/** A platform that does not exist: values that differ for it depend on the building machine. */
const NOWHERE: Platform = { os: 'nowhere', architecture: 'nothing' };

/** The image that the stage starts from; undefined where that is not known yet. */
function platformOf(
  file: ContainerFile,
  index: number,
  target: Platform,
  scopes: readonly ReadonlyMap<string, string>[],
): Platform | undefined {
  const { platform, line } = getStage(file, index);
  if (platform === undefined) return target;
  const texts = scopes.map(scope => atLine(line, () => expandWord(platform, name => scope.get(name), file)));
  const [text = ''] = texts;
  return texts.every(other => other === text) && isPlatform(text) ? parsePlatform(text) : undefined;
}

function isPlatform(text: string): boolean {
  try {
    parsePlatform(text);
    return true;
  } catch (error) {
    // The builder reports what is wrong with it.
    if (error instanceof InvalidPlatform) return false;
    throw error;
  }
}
