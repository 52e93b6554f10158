// One build: each platform in turn, and what came of them pushed.
import { readFile, rm } from 'node:fs/promises';
import { type Digest, parseDigest } from '../../oci/digest.ts';
import { formatPlatform, type Platform } from '../../oci/platform.ts';
import type { BuildOptions, BuildOrder } from '../backend.ts';
import { BuildFailure } from '../maker.ts';
import type { ProcessEnd } from '../process.ts';
import type { Client } from './client.ts';
import { buildArguments, type Isolation, pushArguments, pushListArguments } from './command.ts';
import { describeBuildFailure, describePushFailure } from './failure.ts';
import { createPushReader } from './push.ts';
import { createStepReader } from './steps.ts';
import type { Workspace } from './workspace.ts';

export interface Work {
  readonly client: Client;
  readonly order: BuildOrder;
  readonly workspace: Workspace;
  readonly isolation: Isolation;
  readonly options: BuildOptions;
}

/** Throws BuildFailure, or the signal's reason. */
export async function buildImages(work: Work): Promise<Digest> {
  // The first that fails ends the build.
  for (const platform of work.order.platforms) await buildPlatform(work, platform);
  return await push(work);
}

async function buildPlatform(
  { client, order, workspace, isolation, options }: Work,
  platform: Platform,
): Promise<void> {
  const { signal, tell } = options;
  const name = formatPlatform(platform);
  const steps = createStepReader(name, tell);
  const end = await client.run(workspace, buildArguments(order, workspace, { platform, isolation }), {
    signal,
    onLine: steps.read,
  });
  if (end.code === 0) return steps.end();
  const [complaint, instruction] = [steps.findComplaint(), steps.findInstruction()];
  const failure = describeBuildFailure({ complaint, instruction, platform: name, end: describeEnd(end) });
  steps.fail(failure.reason);
  throw new BuildFailure(failure);
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
