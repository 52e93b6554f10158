// Builds the image of one platform: the target stage, and each stage that it needs.
import type { Digest } from '../../../oci/digest.ts';
import { type Platform, parsePlatform } from '../../../oci/platform.ts';
import { findBases } from '../../containerfile/bases.ts';
import type { AddInstruction, ContainerFile, CopyInstruction } from '../../containerfile/container-file.ts';
import { EXPANSION, expandWord } from '../../containerfile/expand.ts';
import { parseTrigger } from '../../containerfile/parse.ts';
import {
  effectiveInstructions,
  findTarget,
  getStage,
  globalScope,
  resolveBase,
  resolveSources,
  type StageSource,
} from '../../containerfile/stages.ts';
import type { BaseImages } from '../../images.ts';
import { describeDeniedImage } from '../../needs.ts';
import type { Report } from '../../progress.ts';
import { createWork } from '../../work.ts';
import type { ReadOptions } from './archive.ts';
import { openBase } from './base.ts';
import { type DirectoryNode, emptyDirectory } from './file-system.ts';
import { emptyState } from './image-config.ts';
import { readLayers, type WriteOptions } from './layers.ts';
import { buildStage, once, type Snapshot, setVariables } from './stage.ts';
import { createStageScope } from './stage-scope.ts';
import { createStepReporter, InvalidStep, isStep } from './step.ts';

export interface PlatformBuild {
  readonly file: ContainerFile;
  readonly args: Readonly<Record<string, string>>;
  readonly stage: string | undefined;
  readonly buildPlatform: Platform;
  /** By the names of bases. */
  readonly bases: Readonly<Record<string, Digest>>;
  readonly images: BaseImages;
  readonly context: () => Promise<DirectoryNode>;
  readonly reading: ReadOptions;
  readonly writing: WriteOptions;
  readonly report: Report;
}

/** A finished stage with its variables, which stages based on it inherit. */
interface Built {
  readonly snapshot: Snapshot;
  readonly variables: ReadonlyMap<string, string>;
}

/** Throws BuildFailure, InvalidContainerFile, or what `images` throws. */
export async function buildPlatform(target: Platform, build: PlatformBuild): Promise<Snapshot> {
  const { args, stage } = build;
  // Each platform has its own, as if it were built alone.
  const file = { ...build.file, work: createWork(EXPANSION) };
  const globals = globalScope(file, { build: build.buildPlatform, target }, build);
  // The images that the plan has checked. A trigger of a base may name another one, which the caller may not pull.
  const planned = new Set(findBases(file, { args, stage, platforms: [target] }).map(({ reference }) => reference));
  const stages = new Map<number, Promise<Built>>();
  const { snapshot } = await stageAt(findTarget(file, build.stage));
  return snapshot;

  function stageAt(index: number): Promise<Built> {
    const built = stages.get(index) ?? buildAt(index);
    stages.set(index, built);
    return built;
  }

  async function buildAt(index: number): Promise<Built> {
    const stage = getStage(file, index);
    const source = resolveBase(file, index, globals);
    const below = source.kind === 'stage' ? await stageAt(source.index) : undefined;
    const own = effectiveInstructions(file, index, source);
    const steps = own.filter(isStep).length + (source.kind === 'image' ? 1 : 0);
    const stageName = file.stages.length > 1 ? (stage.name ?? `stage-${index}`) : undefined;
    const stepReporter = createStepReporter(build.report, target, { stage: stageName, total: steps });
    const open = () => openSnapshot(source, platformOf(index, below));
    const start =
      below?.snapshot ??
      (await (source.kind === 'image' ? stepReporter.run(stage, open) : stepReporter.check(stage, open)));
    const triggers = below ? [] : (start.state.run.OnBuild ?? []).map(text => parseTrigger(text, '\\', stage.line));
    const scope = createStageScope(below?.variables ?? new Map(), { ...file, args, globals });
    setVariables(scope, start.state.run.Env ?? []);
    const snapshot = await buildStage(withoutTriggers(start), [...triggers, ...own], {
      scope,
      reading: build.reading,
      writing: build.writing,
      openSource: instruction => openSource(index, instruction),
      onStep: (instruction, work) => stepReporter[isStep(instruction) ? 'run' : 'check'](instruction, work),
    });
    return { snapshot, variables: scope.values() };
  }

  function platformOf(index: number, below: Built | undefined): Platform {
    const { platform } = getStage(file, index);
    if (below) return below.snapshot.platform;
    return platform === undefined ? target : parsePlatform(expandWord(platform, name => globals.get(name), file));
  }

  async function openSource(index: number, instruction: CopyInstruction | AddInstruction): Promise<DirectoryNode> {
    const [source] = resolveSources(file, index, instruction);
    if (!source) return build.context();
    if (source.kind === 'stage') return (await stageAt(source.index)).snapshot.root();
    return (await openSnapshot(source, target)).root();
  }

  async function openSnapshot(source: StageSource, platform: Platform): Promise<Snapshot> {
    if (source.kind !== 'image') return { platform, state: emptyState, layers: [], root: async () => emptyDirectory };
    if (!planned.has(source.reference)) throw new InvalidStep(describeDeniedImage(source.reference));
    const digest = Object.hasOwn(build.bases, source.reference) ? build.bases[source.reference] : undefined;
    const { state, layers } = await openBase(build.images, source.reference, { platform, digest });
    const packed = layers.map(({ descriptor, open }) => ({ name: descriptor.digest, open }));
    return { platform, state, layers, root: once(() => readLayers(packed, build.reading)) };
  }
}

/** They apply to the image, not to images based on it. */
function withoutTriggers(snapshot: Snapshot): Snapshot {
  const { state } = snapshot;
  return { ...snapshot, state: { ...state, run: { ...state.run, OnBuild: null } } };
}
