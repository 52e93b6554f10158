// What the variables mean in FROM, and the values that stages take over: the platform's and those of the ARGs before the first FROM.
import type { ContainerFile } from './container-file.ts';
import { expandWord } from './expand.ts';
import { atLine, InvalidContainerFile } from './invalid.ts';
import { type BuildPlatforms, platformArgs } from './platform-args.ts';

interface BuildArguments {
  /** The values that the build was given. */
  readonly args: Readonly<Record<string, string>>;
  /** The target stage as it was asked for. */
  readonly stage?: string | undefined;
}

/** Of all values in one scope: an image config that holds them could not be larger. */
export const MAX_SCOPE_CHARACTERS = 4 * 1024 * 1024;
/** What it takes to look at one, besides its text. */
const ARG_STEPS = 4;

/** Throws InvalidContainerFile, or TooMuchWork. */
export function globalScope(
  file: ContainerFile,
  platforms: BuildPlatforms,
  { args, stage }: BuildArguments,
): ReadonlyMap<string, string> {
  const target = stage || file.stages.at(-1)?.name || 'default';
  const scope = new Map(platformArgs(platforms, target));
  for (const name of scope.keys()) if (Object.hasOwn(args, name)) scope.set(name, args[name] ?? '');
  let size = 0;
  for (const { line, args: declared } of file.globalArgs) {
    for (const { key, value } of declared) {
      file.work.spend(ARG_STEPS);
      const given = Object.hasOwn(args, key) ? args[key] : undefined;
      const expand = () => (value === undefined ? undefined : expandWord(value, name => scope.get(name), file));
      const result = given ?? atLine(line, expand);
      if (result === undefined) continue;
      scope.set(key, result);
      size += result.length;
      if (size > MAX_SCOPE_CHARACTERS) throw new InvalidContainerFile('the values of its ARGs are too long', line);
    }
  }
  return scope;
}
