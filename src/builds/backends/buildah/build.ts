// One build: each platform in turn, then the push.
import { readFile, rm } from 'node:fs/promises';
import { stripVTControlCharacters } from 'node:util';
import { type Digest, parseDigest } from '../../../oci/digest.ts';
import { formatPlatform, type Platform } from '../../../oci/platform.ts';
import type { BuildInput, BuildOptions } from '../../backend.ts';
import { hasStage } from '../../containerfile/stages.ts';
import { BuildFailure } from '../../execution.ts';
import { listReadImages } from '../../needs.ts';
import type { OutputName, ProcessEnd } from '../../process.ts';
import type { ProgressEvent, Report } from '../../progress.ts';
import { normalizeImage } from '../buildkit/source-policy.ts';
import type { Client, RunOptions } from './client.ts';
import { buildArguments, pullArguments, pushArguments, pushListArguments } from './command.ts';
import { createErrorReader, createRuntimeErrorReader, describeBuildFailure, describePushFailure } from './failure.ts';
import { isOffline, type RunMode } from './isolation.ts';
import type { Workspace } from './workspace.ts';

interface BuildahBuild {
  readonly client: Client;
  readonly input: BuildInput;
  readonly workspace: Workspace;
  readonly mode: RunMode;
  readonly options: BuildOptions;
}

/** Throws BuildFailure, or the signal's reason. */
export async function buildImages(work: BuildahBuild): Promise<Digest> {
  // The first failure ends the build.
  for (const platform of work.input.platforms) await buildPlatform(work, platform);
  return await push(work);
}

async function buildPlatform(work: BuildahBuild, platform: Platform): Promise<void> {
  const { client, input, workspace, mode, options } = work;
  const { signal, report } = options;
  const name = formatPlatform(platform);
  // Without a network of its own, buildah needs its images in advance.
  const pulled = isOffline(mode) ? await pullImages(work, platform) : undefined;
  if (pulled && input.cache)
    report({ kind: 'note', platform: name, text: 'a buildah without a network keeps no layers in a registry' });
  const steps = createStepReader(name, report);
  const end = await client.run(workspace, buildArguments(input, workspace, { platform, mode, pulled }), {
    signal,
    onLine: steps.read,
    wrapper: mode.wrapper,
  });
  if (end.code === 0) return steps.end();
  const failure = describeBuildFailure({
    errorText: steps.findErrorText(),
    instruction: steps.findInstruction(),
    runtimeFault: steps.findRuntimeFault(),
    ...{ platform: name, end: describeEnd(end) },
  });
  steps.fail(failure.reason);
  throw new BuildFailure(failure);
}

/** The ids of the pulled images by their names in the Containerfile. An image with the name of a stage is pulled, but not listed. */
async function pullImages(work: BuildahBuild, platform: Platform): Promise<ReadonlyMap<string, string>> {
  const { input } = work;
  const ids = new Map<string, string>();
  for (const name of listReadImages(input.spec)) {
    const isStage = hasStage(input.spec.containerFile, name);
    const pinned = isStage ? undefined : input.bases.get(name)?.name;
    const id = await pullImage(work, pinned ?? normalizeImage(name), platform);
    if (!isStage) ids.set(name, id);
  }
  return ids;
}

async function pullImage(
  { client, workspace, options }: BuildahBuild,
  name: string,
  platform: Platform,
): Promise<string> {
  const { signal, report } = options;
  const text = formatPlatform(platform);
  const errors = createErrorReader();
  let id = '';
  const onLine: RunOptions['onLine'] = (line, from) => {
    if (from === 'stdout') id = line.trim();
    else {
      errors.read(line);
      report({ kind: 'note', platform: text, text: line });
    }
  };
  const end = await client.run(workspace, pullArguments(workspace, name, platform), { signal, onLine });
  if (end.code === 0 && id !== '') return id;
  const failed = { errorText: errors.find(), end: describeEnd(end), instruction: `FROM ${name}`, platform: text };
  throw new BuildFailure(describeBuildFailure(failed));
}

async function push(work: BuildahBuild): Promise<Digest> {
  const { input, workspace } = work;
  if (input.platforms.length === 1) {
    const imageId = (await readFile(workspace.imageId, 'utf8')).trim();
    return (await runPush(work, pushArguments(input, workspace, imageId))) ?? failWithoutDigest();
  }
  const withDigest = pushListArguments(input, workspace, { hasDigestFile: true });
  const digest = await runPush(work, withDigest);
  if (digest) return digest;
  // It failed silently: push without a digest file to get the error. If that succeeds, only the digest is missing.
  await runPush(work, pushListArguments(input, workspace, { hasDigestFile: false }));
  return (await runPush(work, withDigest)) ?? failWithoutDigest();
}

/** The digest, if buildah wrote one. */
async function runPush(
  { client, input, workspace, options }: BuildahBuild,
  args: readonly string[],
): Promise<Digest | undefined> {
  const reader = createPushReader(input.target.image, options.report);
  await rm(workspace.digest, { force: true });
  const end = await client.run(workspace, args, { signal: options.signal, onLine: reader.read });
  if (end.code !== 0) {
    const failure = describePushFailure({ errorText: reader.findErrorText(), end: describeEnd(end) });
    reader.fail(failure.reason);
    throw new BuildFailure(failure);
  }
  reader.end();
  return await readDigest(workspace.digest);
}

async function readDigest(path: string): Promise<Digest | undefined> {
  try {
    const text = (await readFile(path, 'utf8')).trim();
    return text === '' ? undefined : parseDigest(text);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function failWithoutDigest(): never {
  const reason = 'buildah ended well, but does not say which digest it pushed';
  throw new BuildFailure({ kind: 'infrastructure', reason });
}

function describeEnd({ code, endedBy }: ProcessEnd): string {
  return endedBy ?? `exit code ${code}`;
}

// Reads the progress of a build and a push from buildah's output: a line for each step that starts, and the steps' output in between.

export interface StepReader {
  read(line: string, from: OutputName): void;
  /** Ends the last step: the build has ended. */
  end(): void;
  /** Ends the last step as failed. */
  fail(reason: string): void;
  /** The instruction of the last step that started, such as `RUN make`. */
  findInstruction(): string | undefined;
  /** Buildah's own error, on one line; empty if there is none. */
  findErrorText(): string;
  /** Why the runtime could not start the last step; empty if it did. */
  findRuntimeFault(): string;
}

const STEP = /^(?:\[(?<stage>\d+)\/\d+\] )?STEP (?<place>\d+\/\d+): (?<instruction>.*)$/;
const CACHED = /^--> Using cache \S+$/;
const DONE = /^--> \S+$/;
const COMMIT = /^(?:\[\d+\/\d+\] )?COMMIT(?: \S+)?$/;
const IMAGE_ID = /^[0-9a-f]{64}$/;
const LOGGED = /^time="[^"]*" level=\w+ /;
/** Arguments that buildah passes to every build. */
const UNUSED_ARGUMENTS = /^\[Warning\] one or more build args were not consumed: \[TARGET[A-Z]+(?: TARGET[A-Z]+)*\]$/;
const INSTRUCTION_LENGTH = 1_000;

/** For one platform. A RUN can print lines that look like buildah's, which spoil its own log only. */
export function createStepReader(platform: string, report: Report): StepReader {
  /** The name of the current step. */
  let current: string | undefined;
  let instruction: string | undefined;
  const complaint = createErrorReader();
  const runtime = createRuntimeErrorReader();

  function move(state: NonNullable<ProgressEvent['state']>, text?: string): void {
    if (current) report({ kind: 'step', platform, step: current, state, ...(text !== undefined && { text }) });
    if (state !== 'started') current = undefined;
  }

  function begin({ stage, place, instruction: text }: Record<string, string>): void {
    move('done');
    complaint.reset();
    runtime.reset();
    instruction = foldSpace(text ?? '').slice(0, INSTRUCTION_LENGTH);
    const stageName = stage === undefined ? '' : ` stage-${Number(stage) - 1}`;
    current = `[${platform}${stageName} ${place}] ${instruction}`;
    move('started');
  }

  function readProgress(line: string): boolean {
    const step = STEP.exec(line)?.groups;
    if (step) begin(step);
    else if (CACHED.test(line)) move('cached');
    else if (DONE.test(line) || COMMIT.test(line)) move('done');
    else return current === undefined && (IMAGE_ID.test(line) || UNUSED_ARGUMENTS.test(line));
    return true;
  }

  return {
    read(raw, from) {
      const line = stripVTControlCharacters(raw);
      if (from === 'stderr') {
        complaint.read(line);
        runtime.read(line);
      } else if (readProgress(line)) return;
      if (current && !LOGGED.test(line)) report({ kind: 'output', platform, step: current, text: line });
      else if (line !== '') report({ kind: 'note', platform, text: line });
    },
    end: () => move('done'),
    fail: reason => move('failed', reason),
    findInstruction: () => instruction,
    findErrorText: complaint.find,
    findRuntimeFault: runtime.find,
  };
}

function foldSpace(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

interface PushReader {
  read(line: string): void;
  end(): void;
  fail(reason: string): void;
  /** Buildah's own error, on one line; empty if there is none. */
  findErrorText(): string;
}

function createPushReader(image: string, report: Report): PushReader {
  const step = `push ${image}`;
  const complaint = createErrorReader();
  report({ kind: 'step', step, state: 'started' });
  return {
    read(raw) {
      const line = stripVTControlCharacters(raw);
      complaint.read(line);
      report({ kind: 'output', step, text: line });
    },
    end: () => report({ kind: 'step', step, state: 'done' }),
    fail: reason => report({ kind: 'step', step, state: 'failed', text: reason }),
    findErrorText: complaint.find,
  };
}
