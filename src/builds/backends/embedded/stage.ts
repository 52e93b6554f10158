// Builds one stage, instruction by instruction.
import type { Platform } from '../../../oci/platform.ts';
import type { AddInstruction, CopyInstruction, Instruction } from '../../containerfile/container-file.ts';
import type { ReadOptions } from './archive.ts';
import { changeConfig, historyOf } from './change-config.ts';
import { resolveChown } from './chown-chmod.ts';
import { copyFiles, isLinked, toAbsolute } from './copy-step.ts';
import {
  createRootfs,
  type DirectoryNode,
  emptyDirectory,
  followPath,
  formatPath,
  type Rootfs,
  splitPath,
} from './file-system.ts';
import type { ImageState } from './image-config.ts';
import { type Layer, type WriteOptions, writeLayer } from './layers.ts';
import type { StageScope } from './stage-scope.ts';
import { InvalidStep } from './step.ts';

/** The state of a stage: its config, its layers, and the files in them, which are read only on demand. */
export interface Snapshot {
  readonly platform: Platform;
  readonly state: ImageState;
  readonly layers: readonly Layer[];
  readonly root: () => Promise<DirectoryNode>;
}

interface StageOptions {
  readonly scope: StageScope;
  readonly reading: ReadOptions;
  readonly writing: WriteOptions;
  /** The files that a COPY or ADD reads from. */
  readonly openSource: (instruction: CopyInstruction | AddInstruction) => Promise<DirectoryNode>;
  /** Called around each instruction. */
  readonly onStep: (instruction: Instruction, work: () => Promise<Snapshot>) => Promise<Snapshot>;
}

/** The maximum that can be mounted. */
const MAX_LAYERS = 500;

const DIRECTORY_MODE = 0o755;

/** Throws what `onStep` throws. */
export async function buildStage(
  start: Snapshot,
  instructions: readonly Instruction[],
  options: StageOptions,
): Promise<Snapshot> {
  let snapshot = start;
  let hasCmd = false;
  for (const instruction of instructions) {
    const before = snapshot;
    snapshot = await options.onStep(instruction, () => apply(before, instruction, { ...options, hasCmd }));
    hasCmd ||= instruction.kind === 'cmd';
    await options.reading.work.rest();
  }
  return snapshot;
}

/** Throws InvalidStep or InvalidSyntax. */
async function apply(
  before: Snapshot,
  instruction: Instruction,
  options: StageOptions & { readonly hasCmd: boolean },
): Promise<Snapshot> {
  const { scope, hasCmd } = options;
  switch (instruction.kind) {
    case 'run':
      throw new InvalidStep('RUN needs a builder: install BuildKit, docker with buildx, or buildah');
    case 'arg':
      return withHistory(before, scope.declare(instruction.args));
    case 'workdir':
      return changeWorkingDir(before, scope.expand(instruction.value), options);
    case 'copy':
    case 'add':
      return copy(before, instruction, options);
    default: {
      const state = changeConfig(before.state, instruction, { ...scope, hasCmd });
      if (!state) return before;
      if (instruction.kind === 'env') setVariables(scope, state.run.Env ?? []);
      return { ...before, state };
    }
  }
}

function withHistory(snapshot: Snapshot, text: string): Snapshot {
  const { state } = snapshot;
  return { ...snapshot, state: { ...state, history: [...state.history, historyOf(text, true)] } };
}

async function changeWorkingDir(before: Snapshot, path: string, options: StageOptions): Promise<Snapshot> {
  const { state } = before;
  const WorkingDir = formatPath(splitPath(toAbsolute(path, state.run.WorkingDir ?? '')));
  const snapshot = { ...before, state: { ...state, run: { ...state.run, WorkingDir } } };
  const text = `WORKDIR ${WorkingDir}`;
  if (WorkingDir === '/') return withHistory(snapshot, text);
  const rootfs = createRootfs(await before.root());
  const ownership = state.run.User ? await resolveChown(rootfs.root, state.run.User) : { uid: 0, gid: 0 };
  rootfs.makeDirectories(followPath(rootfs.root, splitPath(WorkingDir)), { mode: DIRECTORY_MODE, ...ownership });
  return withLayer(snapshot, rootfs, { text, root: async () => rootfs.root, options });
}

async function copy(
  before: Snapshot,
  instruction: CopyInstruction | AddInstruction,
  options: StageOptions,
): Promise<Snapshot> {
  const source = await options.openSource(instruction);
  const workingDir = before.state.run.WorkingDir ?? '';
  const alone = isLinked(instruction);
  const rootfs = await copyFiles(alone ? emptyDirectory : await before.root(), instruction, {
    ...options,
    workingDir,
    source,
  });
  const root = alone ? once(async () => putOnto(await before.root(), rootfs)) : async () => rootfs.root;
  return withLayer(before, rootfs, { text: `${instruction.code} # buildkit`, root, options });
}

interface Added {
  /** As in the history. */
  readonly text: string;
  readonly root: () => Promise<DirectoryNode>;
  readonly options: StageOptions;
}

async function withLayer(snapshot: Snapshot, rootfs: Rootfs, { text, root, options }: Added): Promise<Snapshot> {
  if (snapshot.layers.length >= MAX_LAYERS)
    throw new InvalidStep(`the image would have more than ${MAX_LAYERS} layers`);
  const layer = await writeLayer(rootfs.changes(), options.writing);
  const { state } = snapshot;
  const history = [...state.history, historyOf(text, false)];
  return { ...snapshot, state: { ...state, history }, layers: [...snapshot.layers, layer], root };
}

/** Upper files win, as in every layer. */
function putOnto(root: DirectoryNode, above: Rootfs): DirectoryNode {
  const rootfs = createRootfs(root);
  for (const { path, node } of above.changes()) rootfs.put(path, node);
  return rootfs.root;
}

/** The environment of an image as variables. */
export function setVariables(scope: StageScope, env: readonly string[]): void {
  for (const entry of env) {
    const equals = entry.indexOf('=');
    if (equals > 0) scope.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
}

/** Done at most once, and only on demand. */
export function once<T>(work: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= work();
    return result;
  };
}
