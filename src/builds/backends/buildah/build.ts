// One build: each platform in turn, and what came of them pushed.
import { readFile, rm } from 'node:fs/promises';
import { type Digest, parseDigest } from '../../../oci/digest.ts';
import { formatPlatform, type Platform } from '../../../oci/platform.ts';
import type { BuildOptions, BuildOrder } from '../../backend.ts';
import { hasStage } from '../../containerfile/stages.ts';
import { BuildFailure } from '../../execution.ts';
import { listReadImages } from '../../needs.ts';
import type { ProcessEnd } from '../../process.ts';
import { normalizeImage } from '../buildkit/source-policy.ts';
import type { Client, RunOptions } from './client.ts';
import { buildArguments, pullArguments, pushArguments, pushListArguments } from './command.ts';
import { createComplaint, describeBuildFailure, describePushFailure } from './failure.ts';
import { isCutOff, type RunWay } from './isolation.ts';
import { createPushReader, createStepReader } from './progress.ts';
import type { Workspace } from './workspace.ts';

interface Work {
  readonly client: Client;
  readonly order: BuildOrder;
  readonly workspace: Workspace;
  readonly way: RunWay;
  readonly options: BuildOptions;
}

/** Throws BuildFailure, or the signal's reason. */
export async function buildImages(work: Work): Promise<Digest> {
  // The first that fails ends the build.
  for (const platform of work.order.platforms) await buildPlatform(work, platform);
  return await push(work);
}

async function buildPlatform(work: Work, platform: Platform): Promise<void> {
  const { client, order, workspace, way, options } = work;
  const { signal, tell } = options;
  const name = formatPlatform(platform);
  // Where buildah has no network itself, what it reads has to be there before.
  const pulled = isCutOff(way) ? await pullImages(work, platform) : undefined;
  if (pulled && order.cache)
    tell({ kind: 'note', platform: name, text: 'a buildah without a network keeps no layers in a registry' });
  const steps = createStepReader(name, tell);
  const end = await client.run(workspace, buildArguments(order, workspace, { platform, way, pulled }), {
    signal,
    onLine: steps.read,
    wrapper: way.wrapper,
  });
  if (end.code === 0) return steps.end();
  const failure = describeBuildFailure({
    complaint: steps.findComplaint(),
    instruction: steps.findInstruction(),
    runtimeFault: steps.findRuntimeFault(),
    ...{ platform: name, end: describeEnd(end) },
  });
  steps.fail(failure.reason);
  throw new BuildFailure(failure);
}

/** The ids of the images by their names in the Containerfile. One whose name is a stage's too is only there. */
async function pullImages(work: Work, platform: Platform): Promise<ReadonlyMap<string, string>> {
  const { order } = work;
  const ids = new Map<string, string>();
  for (const name of listReadImages(order.spec)) {
    const isStage = hasStage(order.spec.containerFile, name);
    const pinned = isStage ? undefined : order.bases.get(name)?.name;
    const id = await pullImage(work, pinned ?? normalizeImage(name), platform);
    if (!isStage) ids.set(name, id);
  }
  return ids;
}

async function pullImage({ client, workspace, options }: Work, name: string, platform: Platform): Promise<string> {
  const { signal, tell } = options;
  const text = formatPlatform(platform);
  const complaint = createComplaint();
  let id = '';
  const onLine: RunOptions['onLine'] = (line, from) => {
    if (from === 'stdout') id = line.trim();
    else {
      complaint.listen(line);
      tell({ kind: 'note', platform: text, text: line });
    }
  };
  const end = await client.run(workspace, pullArguments(workspace, name, platform), { signal, onLine });
  if (end.code === 0 && id !== '') return id;
  const failed = { complaint: complaint.find(), end: describeEnd(end), instruction: `FROM ${name}`, platform: text };
  throw new BuildFailure(describeBuildFailure(failed));
}

async function push(work: Work): Promise<Digest> {
  const { order, workspace } = work;
  if (order.platforms.length === 1) {
    const imageId = (await readFile(workspace.imageId, 'utf8')).trim();
    return (await runPush(work, pushArguments(order, workspace, imageId))) ?? failWithoutDigest();
  }
  const withDigest = pushListArguments(order, workspace, { hasDigestFile: true });
  const digest = await runPush(work, withDigest);
  if (digest) return digest;
  // It failed: once more, to hear why. Where that is over, only the digest is missing.
  await runPush(work, pushListArguments(order, workspace, { hasDigestFile: false }));
  return (await runPush(work, withDigest)) ?? failWithoutDigest();
}

/** The digest where buildah wrote one. */
async function runPush(
  { client, order, workspace, options }: Work,
  args: readonly string[],
): Promise<Digest | undefined> {
  const reader = createPushReader(order.target.image, options.tell);
  await rm(workspace.digest, { force: true });
  const end = await client.run(workspace, args, { signal: options.signal, onLine: reader.read });
  if (end.code !== 0) {
    const failure = describePushFailure({ complaint: reader.findComplaint(), end: describeEnd(end) });
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
