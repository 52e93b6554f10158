// The builder that gives each part of a build a Job of its own in a Kubernetes cluster, with a BuildKit that lives as long as it.
import { createHash, randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import type { V1Pod } from '@kubernetes/client-node';
import { type Digest, isDigest } from '../../../oci/digest.ts';
import { formatPlatform, type Platform } from '../../../oci/platform.ts';
import type { Backend, BuildInput, BuildOptions, BuildResult } from '../../backend.ts';
import { BackendUnavailable, BuildFailure, failUnavailable, isClosing } from '../../execution.ts';
import type { Report } from '../../progress.ts';
import type { Failure } from '../../record.ts';
import type { ContainerFileSpec } from '../../spec.ts';
import { findUnsupportedArgument } from '../buildkit/command.ts';
import { describeFailure } from '../buildkit/failure.ts';
import { createProgressReader, PROGRESS_LINE_LENGTH, type ProgressReader } from '../buildkit/progress.ts';
import { type ContextOffers, packContext } from './archive.ts';
import { type Cluster, type ClusterOptions, openCluster } from './cluster.ts';
import {
  createJob,
  createSecret,
  type JobOptions,
  jobName,
  LABELS,
  type PodContext,
  type PodOptions,
  type Security,
} from './job.ts';
import { findSelector, listSelected, type NodeSelectors } from './node-selector.ts';
import {
  type Asked,
  describeDisruption,
  describeEnd,
  describeExit,
  describeRefusal,
  describeWait,
  findDigest,
  hasBegun,
  hasEnded,
  type Seen,
} from './outcome.ts';

export interface KubernetesOptions extends Omit<ClusterOptions, 'instance'>, Omit<PodOptions, 'image'> {
  readonly name: string;
  /** What it is to build for; absent: what the map has, else linux/amd64. */
  readonly platforms?: readonly Platform[] | undefined;
  /** Absent: pods go to any node. */
  readonly nodeSelector?: NodeSelectors | undefined;
  /** Whether one Job builds for all platforms, which its node emulates; else each has a Job of its own. */
  readonly isOneJob: boolean;
  /** `auto`: `userns` where all nodes can give a pod one, else `rootless`. */
  readonly security: Security | 'auto';
  /** Absent: BuildKit's own. */
  readonly image?: string | undefined;
  /** How long a pod may take until it works. */
  readonly scheduleTimeoutMs: number;
  /** Of a build whose spec names none. */
  readonly timeoutMs: number;
  /** How pods reach Veneer; absent: they need not. */
  readonly callbackUrl?: URL | undefined;
  /** For contexts that no Secret holds; they need the callback. */
  readonly contexts?: ContextOffers | undefined;
  /** Whether a build waits or runs: a Job whose build does not is removed. */
  readonly isUnderWay: (id: string) => Promise<boolean>;
}

/** A field that a cluster does not know is dropped by it. */
const NO_HOST_USERS =
  'the cluster does not know hostUsers, and its pods would be root of their nodes: set security: rootless, or privileged';
const IMAGE = 'docker.io/moby/buildkit:v0.34.2';
/** What a Secret has to hold beside it is small. */
const MAX_CONTEXT_BYTES = 512 * 1024;
/** The first time it is asked the library is loaded, too. */
const ANSWER_MS = 30_000;
/** How long a Job may take to be gone: its pod has a grace of seconds. */
const REMOVAL_MS = 25_000;
/** What is left of a log once its pod has ended. */
const LOG_REST_MS = 10_000;

export function createKubernetesBackend(options: KubernetesOptions): Backend {
  const { name, nodeSelector, callbackUrl } = options;
  const instance = createHash('sha256')
    .update(callbackUrl?.href ?? name)
    .digest('hex')
    .slice(0, 12);
  const platforms = platformsOf(options);
  const working = new Set<string>();
  let security: Security = options.security === 'auto' ? 'rootless' : options.security;
  let withoutUserNamespaces: string | undefined;
  let opened: Cluster | undefined;

  function getCluster(): Cluster {
    opened ??= openCluster({ ...options, instance });
    return opened;
  }

  /** Throws BackendUnavailable where the nodes cannot do what is configured. */
  async function chooseSecurity(cluster: Cluster): Promise<void> {
    if (options.security === 'rootless' || options.security === 'privileged') return;
    const obstacle = await cluster.findUserNamespaceObstacle(nodeSelector ? Object.values(nodeSelector) : [{}]);
    if (options.security === 'userns') {
      if (!obstacle?.isKnown) return;
      throw new BackendUnavailable(`security: userns: ${obstacle.reason}; set security: rootless, or privileged`);
    }
    security = obstacle ? 'rootless' : 'userns';
    withoutUserNamespaces = obstacle?.reason;
  }

  async function sweep(): Promise<void> {
    const cluster = getCluster();
    await cluster.watch();
    for (const { metadata } of cluster.listJobs()) {
      const { name: job = '', labels = {}, deletionTimestamp } = metadata ?? {};
      if (working.has(job) || deletionTimestamp || (await options.isUnderWay(labels[LABELS.build] ?? ''))) continue;
      await cluster.deleteJob(job);
    }
  }

  async function build(order: BuildInput, buildOptions: BuildOptions): Promise<BuildResult> {
    buildOptions.signal.throwIfAborted();
    const job = jobName(order);
    working.add(job);
    try {
      const cluster = getCluster();
      await cluster.watch();
      const image = options.image ?? (security === 'rootless' ? `${IMAGE}-rootless` : IMAGE);
      const timeoutMs = order.spec.timeoutMs ?? options.timeoutMs;
      const selector = nodeSelector && findSelector(nodeSelector, order.platforms);
      const { namespace } = cluster;
      const secret = `${job}-${randomBytes(4).toString('hex')}`;
      const jobOptions = { ...options, name: job, secret, namespace, instance, security, image, selector, timeoutMs };
      return await runJob(order, buildOptions, { cluster, options, jobOptions });
    } catch (error) {
      buildOptions.signal.throwIfAborted();
      return failUnavailable(error);
    } finally {
      working.delete(job);
    }
  }

  return {
    name,
    kind: 'kubernetes',
    isMultiPlatform: options.isOneJob,
    isParallel: true,
    survivesRestart: true,
    answerTimeoutMs: ANSWER_MS,
    ...(callbackUrl && { ownRegistry: { host: callbackUrl.host, isInsecure: callbackUrl.protocol === 'http:' } }),
    async listPlatforms() {
      const cluster = getCluster();
      await cluster.check();
      await cluster.watch();
      await chooseSecurity(cluster);
      return platforms;
    },
    findUnsupportedReason: findObstacle,
    listNotes: () => [...listSecurityNotes(security, withoutUserNamespaces), ...listCallbackNotes(callbackUrl)],
    build,
    sweep,
    close: async () => opened?.close(),
  };
}

/** A platform without a selector is none where there is a map. */
function platformsOf({ platforms, nodeSelector }: KubernetesOptions): readonly Platform[] {
  if (!nodeSelector) return platforms ?? [{ os: 'linux', architecture: 'amd64' }];
  return (platforms ?? listSelected(nodeSelector)).filter(platform => findSelector(nodeSelector, [platform]));
}

function findObstacle(spec: ContainerFileSpec): string | undefined {
  if (spec.ssh.length > 0)
    return 'an agent or key of this machine is not given to a pod: RUN --mount=type=ssh has none';
  if (spec.network === 'host')
    return 'the network of a node is not given to a RUN: that of its pod is the most that it can have';
  return findUnsupportedArgument(spec);
}

function listSecurityNotes(security: Security, withoutUserNamespaces: string | undefined): readonly string[] {
  const notes = {
    rootless: 'pods work without root; a RUN sees the processes of its own pod',
    userns: 'pods are root in a user namespace of their own',
    privileged: 'pods are root of their node: only builds of people whom you trust may run there',
  } as const;
  const why = withoutUserNamespaces === undefined ? '' : `; no user namespaces: ${withoutUserNamespaces}`;
  return [`${security}: ${notes[security]}${why}`];
}

function listCallbackNotes(callbackUrl: URL | undefined): readonly string[] {
  const isLoopback = callbackUrl && /^(?:localhost|127\.[\d.]+|\[::1\])$/.test(callbackUrl.hostname);
  return isLoopback
    ? [`callbackUrl: ${callbackUrl.origin} leads a pod to itself, unless it has the network of its node`]
    : [];
}

/** What one build needs beside its order. */
interface Work {
  readonly cluster: Cluster;
  readonly options: KubernetesOptions;
  readonly jobOptions: JobOptions;
}

/** The Job is gone afterwards, with its pod and its Secret; it stays where the service stops, which goes on with it later. */
async function runJob(order: BuildInput, buildOptions: BuildOptions, work: Work): Promise<BuildResult> {
  const { cluster, options, jobOptions } = work;
  const { signal, report, resume } = buildOptions;
  const { name } = jobOptions;
  const { context, end } = await prepareContext(order, work);
  let isGood = false;
  try {
    const isFound = await beginJob(order, work, context);
    report({ kind: 'note', text: `${isFound ? 'goes on with the' : 'begins the'} Job ${cluster.namespace}/${name}` });
    const { scheduleTimeoutMs } = options;
    const following = { cluster, name, asked: askedOf(order, work), scheduleTimeoutMs };
    const digest = digestOf(
      await followJob(order, { signal, report, ...(isFound && resume && { resume }) }, following),
    );
    isGood = true;
    return { digest };
  } finally {
    end();
    if (!isClosing(signal)) await removeJob(cluster, name, { isAwaited: !isGood });
  }
}

function askedOf(order: BuildInput, { jobOptions, options }: Work): Asked {
  const { selector, image, security, namespace, resources, timeoutMs } = jobOptions;
  const platforms = order.platforms.map(formatPlatform).join(', ');
  const memoryLimit = resources.limits.memory;
  const callbackUrl = options.callbackUrl?.origin;
  return { platforms, selector, image, security, namespace, memoryLimit, timeoutMs, callbackUrl };
}

/** True where the Job of an earlier process works on. */
async function beginJob(order: BuildInput, { cluster, jobOptions }: Work, context: PodContext): Promise<boolean> {
  const { name } = jobOptions;
  const job = createJob(order, jobOptions);
  let made = await cluster.createJob(job);
  if (!made) {
    const { metadata, spec } = cluster.see(name).job ?? {};
    // One that was never resumed has no Secret, perhaps.
    if (spec && !metadata?.deletionTimestamp && !spec.suspend) return true;
    await removeJob(cluster, name, { isAwaited: true });
    made = await cluster.createJob(job);
  }
  if (!made) throw failed('infrastructure', `the Job ${name} of an earlier try is still there`);
  if (jobOptions.security === 'userns' && made.spec?.template.spec?.hostUsers !== false)
    throw failed('infrastructure', NO_HOST_USERS);
  await cluster.createSecret(createSecret(order, made, { name: jobOptions.secret, context }));
  await cluster.resumeJob(name);
  return false;
}

/** What cannot be removed now is swept later. */
async function removeJob(
  cluster: Cluster,
  name: string,
  { isAwaited }: { readonly isAwaited: boolean },
): Promise<void> {
  try {
    await cluster.deleteJob(name);
    if (!isAwaited) return;
    for await (const _ of cluster.changes(name, AbortSignal.timeout(REMOVAL_MS))) if (!cluster.see(name).job) return;
  } catch {
    // The build has its own end, whatever comes of its Job.
  }
}

async function prepareContext(
  order: BuildInput,
  { options, jobOptions }: Work,
): Promise<{ readonly context: PodContext; end(): void }> {
  const file = join(order.directory, 'context.cpio.gz');
  await pipeline(
    Readable.from(await packContext(join(order.directory, 'context'))),
    createWriteStream(file, { mode: 0o600 }),
  );
  const { size } = await stat(file);
  if (size <= MAX_CONTEXT_BYTES) return { context: { bytes: await readFile(file) }, end: () => undefined };
  const { contexts, callbackUrl } = options;
  if (!contexts || !callbackUrl) {
    const reason = `the build context has ${size} bytes packed, and pods have no way to fetch what is over ${MAX_CONTEXT_BYTES}`;
    throw failed('build', reason);
  }
  const { path, end } = contexts.offer(jobOptions.name, file, jobOptions.timeoutMs + options.scheduleTimeoutMs);
  return { context: { url: new URL(path, callbackUrl).href }, end };
}

interface Following {
  readonly cluster: Cluster;
  readonly name: string;
  readonly asked: Asked;
  readonly scheduleTimeoutMs: number;
}

interface Followed {
  readonly seen: Seen;
  readonly asked: Asked;
  /** Of the last pod, if one began. */
  readonly progress: ProgressReader | undefined;
}

/** To the end of the Job, and of its log. Throws BuildFailure for a pod that does not begin in time. */
async function followJob(order: BuildInput, options: BuildOptions, following: Following): Promise<Followed> {
  const { cluster, name, asked } = following;
  const { signal, report } = options;
  const over = new AbortController();
  const stop = AbortSignal.any([signal, over.signal]);
  const say = createSayOnce(report);
  const patience = createPatience(following.scheduleTimeoutMs, reason => over.abort(reason));
  const reader = createPodReader(order, { ...options, cluster, signal: stop });
  let wasThere = false;
  try {
    for await (const _ of cluster.changes(name, stop)) {
      const seen = cluster.see(name);
      if (!seen.job && wasThere) throw failed('infrastructure', `somebody removed the Job ${name}`);
      wasThere ||= seen.job !== undefined;
      const refusal = describeRefusal(seen, asked);
      if (refusal !== undefined) throw failed('infrastructure', refusal);
      const wait = describeWait(seen, asked);
      for (const text of [wait, describeDisruption(seen.pod)]) say(text);
      patience.look(hasBegun(seen.pod), wait);
      if (seen.pod && hasBegun(seen.pod)) reader.read(seen.pod);
      if (hasEnded(seen)) return { seen, asked, progress: await reader.end() };
    }
    throw new Error('the changes of a Job ended by themselves');
  } finally {
    patience.end();
    over.abort();
  }
}

/** What stays as it is is said once. */
function createSayOnce(tell: Report): (text: string | undefined) => void {
  const said = new Set<string>();
  return text => {
    if (text === undefined || said.has(text)) return;
    said.add(text);
    tell({ kind: 'note', text });
  };
}

/** Until a pod has begun there is only so much time, also for one that takes the place of another. */
function createPatience(ms: number, giveUp: (reason: BuildFailure) => void) {
  let timer: NodeJS.Timeout | undefined;
  let why: string | undefined;
  const end = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  return {
    look(hasBegun: boolean, wait: string | undefined) {
      why = wait ?? why;
      if (hasBegun) return end();
      timer ??= setTimeout(() => {
        const within = `it did not begin within ${ms / 1000} s`;
        giveUp(failed('timeout', why === undefined ? within : `${why}; ${within}`));
      }, ms);
    },
    end,
  };
}

/** The log of each pod as the progress of the build: of one that took the place of another from its beginning. */
function createPodReader(order: BuildInput, options: BuildOptions & { readonly cluster: Cluster }) {
  const { cluster, signal, report, resume = async () => report } = options;
  let uid: string | undefined;
  let progress: ProgressReader | undefined;
  let reading: Promise<void> = Promise.resolve();

  /** From its beginning, also where an earlier process has read it: later lines speak of steps that earlier ones name. */
  async function readAll(pod: V1Pod): Promise<void> {
    const text = `works in the pod ${pod.metadata?.name} on the node ${pod.spec?.nodeName}`;
    const tellPod = await resume(text);
    if (uid !== pod.metadata?.uid) return;
    tellPod({ kind: 'note', text });
    progress = createProgressReader(order.platforms, tellPod);
    await cluster.readLog(pod, progress.read, { signal, maxLineLength: PROGRESS_LINE_LENGTH });
  }

  return {
    read(pod: V1Pod): void {
      if (pod.metadata?.uid === uid) return;
      progress?.end();
      progress = undefined;
      uid = pod.metadata?.uid;
      reading = readAll(pod).catch(() => undefined);
    },
    async end(): Promise<ProgressReader | undefined> {
      await Promise.race([reading, pause(LOG_REST_MS, undefined, { signal, ref: false })]);
      progress?.end();
      return progress;
    },
  };
}

/** Throws BuildFailure for a Job that failed. */
function digestOf({ seen, asked, progress }: Followed): Digest {
  const text = findDigest(seen);
  if (text === undefined) throw new BuildFailure(failureOf({ seen, asked, progress }));
  if (isDigest(text)) return text;
  throw failed('infrastructure', 'the Job ended well, but does not say which digest it pushed');
}

function failureOf({ seen, asked, progress }: Followed): Failure {
  const step = progress?.findFailed();
  const failure = describeEnd(seen, asked);
  if (!failure) return describeFailure({ step, errorText: progress?.findErrorText() ?? '', end: describeExit(seen) });
  const { platform, instruction } = step ?? {};
  return {
    ...failure,
    ...(platform !== undefined && { platform }),
    ...(instruction !== undefined && { step: instruction }),
  };
}

function failed(kind: Failure['kind'], reason: string): BuildFailure {
  return new BuildFailure({ kind, reason });
}
