// The stages of a Containerfile: resolves FROM and --from once variables are expanded, and finds the stages that a target needs.
import { formatPlatform, type Platform } from '../../oci/platform.ts';
import { findSimilar } from '../../oci/wording.ts';
import {
  atLine,
  type ContainerFile,
  type Instruction,
  InvalidContainerFile,
  quote,
  type Stage,
} from './container-file.ts';
import { expandWord } from './expand.ts';
import { parseTrigger } from './parse.ts';

/** What a stage starts from or reads from: another stage by its number, an image, or nothing. */
export type StageSource =
  | { readonly kind: 'stage'; readonly index: number }
  | { readonly kind: 'image'; readonly reference: string; readonly line: number }
  | { readonly kind: 'scratch' };

interface BuildPlatforms {
  /** Of the building machine. */
  readonly build: Platform;
  readonly target: Platform;
}

interface BuildArguments {
  /** The build arguments. */
  readonly args: Readonly<Record<string, string>>;
  /** The target stage as requested. */
  readonly stage?: string | undefined;
}

/** For all values in one scope: a larger image config would be refused. */
export const MAX_SCOPE_CHARACTERS = 4 * 1024 * 1024;

/** The cost of one, besides its text. */
const ARG_STEPS = 4;

/**
 * The variables for FROM, and those that stages inherit: the platform's, and the ARGs before the first FROM. Throws InvalidContainerFile or
 * WorkLimitExceeded.
 */
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

/** https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope; `stage` is the target stage. */
function platformArgs({ build, target }: BuildPlatforms, stage: string): ReadonlyMap<string, string> {
  return new Map([
    ['BUILDPLATFORM', formatPlatform(build)],
    ['BUILDOS', build.os],
    ['BUILDOSVERSION', ''],
    ['BUILDARCH', build.architecture],
    ['BUILDVARIANT', build.variant ?? ''],
    ['TARGETPLATFORM', formatPlatform(target)],
    ['TARGETOS', target.os],
    ['TARGETOSVERSION', ''],
    ['TARGETARCH', target.architecture],
    ['TARGETVARIANT', target.variant ?? ''],
    ['TARGETSTAGE', stage],
  ]);
}

/** The number of the stage to build; default: the last. Throws InvalidContainerFile or WorkLimitExceeded. */
export function findTarget(file: ContainerFile, stage: string | undefined): number {
  if (!stage) return file.stages.length - 1;
  const index = findNamed(file, stage);
  if (index !== undefined) return index;
  const names = file.stages.flatMap(({ name }) => name ?? []);
  const similar = findSimilar(stage, names);
  const hint = similar ? `did you mean ${similar}?` : `there are ${names.join(', ') || 'no named ones'}`;
  throw new InvalidContainerFile(`it has no stage ${quote(stage)}; ${hint}`);
}

/** The stages that the target needs, including itself, in order. Throws InvalidContainerFile or WorkLimitExceeded. */
export function neededStages(
  file: ContainerFile,
  target: number,
  scope: ReadonlyMap<string, string>,
): readonly number[] {
  const needed = new Set<number>();
  const waiting = [target];
  for (let index = waiting.pop(); index !== undefined; index = waiting.pop()) {
    if (needed.has(index)) continue;
    needed.add(index);
    for (const source of sourcesOf(file, index, scope)) if (source.kind === 'stage') waiting.push(source.index);
  }
  return [...needed].sort((a, b) => a - b);
}

/** Everything that a stage starts from and reads from. Throws InvalidContainerFile or WorkLimitExceeded. */
export function sourcesOf(
  file: ContainerFile,
  index: number,
  scope: ReadonlyMap<string, string>,
): readonly StageSource[] {
  const base = resolveBase(file, index, scope);
  return [base, ...effectiveInstructions(file, index, base).flatMap(each => resolveSources(file, index, each))];
}

/** What the stage starts from, with variables expanded. Throws InvalidContainerFile or WorkLimitExceeded. */
export function resolveBase(file: ContainerFile, index: number, scope: ReadonlyMap<string, string>): StageSource {
  const { base, line } = getStage(file, index);
  const name = atLine(line, () => expandWord(base, variable => scope.get(variable), file));
  if (name === '')
    throw new InvalidContainerFile(
      `FROM ${quote(base)} is empty once its variables are expanded; give its ARG a value`,
      line,
    );
  file.work.spend(index);
  const earlier = file.stages.findLastIndex((stage, i) => i < index && stage.name === name);
  if (earlier >= 0) return { kind: 'stage', index: earlier };
  return name === 'scratch' ? { kind: 'scratch' } : { kind: 'image', reference: name, line };
}

/** The instructions of a stage, preceded by the triggers of its base stage. Throws InvalidContainerFile or WorkLimitExceeded. */
export function effectiveInstructions(file: ContainerFile, index: number, base: StageSource): readonly Instruction[] {
  const { instructions, line } = getStage(file, index);
  if (base.kind !== 'stage') return instructions;
  const triggers = getStage(file, base.index).instructions.flatMap(each =>
    each.kind === 'onbuild' ? each.trigger : [],
  );
  return [...triggers.map(trigger => readTrigger(file, trigger, line)), ...instructions];
}

function readTrigger({ work }: ContainerFile, trigger: string, line: number): Instruction {
  work.spend(trigger.length);
  return parseTrigger(trigger, '\\', line);
}

/** What an instruction of a stage reads from. Throws InvalidContainerFile for a later stage. */
export function resolveSources(file: ContainerFile, index: number, instruction: Instruction): readonly StageSource[] {
  if (instruction.kind === 'copy' && instruction.from !== undefined) {
    return [resolveFrom(file, index, { from: instruction.from, line: instruction.line })];
  }
  if (instruction.kind !== 'run') return [];
  return instruction.mountSources.map(from => resolveNamed(file, index, { from, line: instruction.line }));
}

interface From {
  readonly from: string;
  readonly line: number;
}

function resolveFrom(file: ContainerFile, index: number, { from, line }: From): StageSource {
  if (!/^[-+]?\d+$/.test(from)) return resolveNamed(file, index, { from, line });
  const number = Number(from);
  if (number >= 0 && number < index) return { kind: 'stage', index: number };
  throw new InvalidContainerFile(
    `--from=${quote(from)} is not an earlier stage; there are ${index}, counted from 0`,
    line,
  );
}

function resolveNamed(file: ContainerFile, index: number, { from, line }: From): StageSource {
  const named = findNamed(file, from);
  if (named === undefined) return from === 'scratch' ? { kind: 'scratch' } : { kind: 'image', reference: from, line };
  if (named < index) return { kind: 'stage', index: named };
  throw new InvalidContainerFile(`the stage ${quote(from)} is not built yet; move it above this one`, line);
}

/** The last stage of the name, in any case. */
function findNamed(file: ContainerFile, text: string): number | undefined {
  const name = text.toLowerCase();
  file.work.spend(file.stages.length);
  const index = file.stages.findLastIndex(stage => stage.name === name);
  return index < 0 ? undefined : index;
}

export function getStage(file: ContainerFile, index: number): Stage {
  const stage = file.stages[index];
  if (!stage) throw new InvalidContainerFile(`it has no stage ${index}`);
  return stage;
}

/** By the text only, for a Containerfile that only its builder can parse. A line of a heredoc that looks like a FROM counts as one. */
export function hasStage(containerFile: string, name: string): boolean {
  return containerFile.split('\n').some(line => {
    const words = line
      .trim()
      .toLowerCase()
      .split(/[ \t]+/);
    return words[0] === 'from' && words.at(-2) === 'as' && words.at(-1) === name.toLowerCase();
  });
}
