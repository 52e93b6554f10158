// The Kubernetes builder: runs each part of a build as a Job in a cluster, each with its own BuildKit.
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
import type { Backend, BuildInput, BuildOptions, BuildResult, IsUnderWay } from '../../backend.ts';
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
  describeDisruption,
  describeEnd,
  describeExit,
  describeRefusal,
  describeWait,
  findDigest,
  hasBegun,
  hasEnded,
  type RequestedResources,
  type Seen,
} from './outcome.ts';

export interface KubernetesOptions extends Omit<ClusterOptions, 'instance'>, Omit<PodOptions, 'image'> {
  readonly name: string;
  /** The platforms to build for; absent: those of the map, else linux/amd64. */
  readonly platforms?: readonly Platform[] | undefined;
  /** Absent: pods may be scheduled on any node. */
  readonly nodeSelector?: NodeSelectors | undefined;
  /** Whether one Job builds all platforms, emulated on its node; else each has its own Job. */
  readonly isOneJob: boolean;
  /** `auto`: `userns` where all nodes support user namespaces for pods, else `rootless`. */
  readonly security: Security | 'auto';
  /** Absent: BuildKit's own. */
  readonly image?: string | undefined;
  /** The maximum time until a pod starts. */
  readonly scheduleTimeoutMs: number;
  /** For a build whose spec has none. */
  readonly timeoutMs: number;
  /** The address of Veneer for pods; absent: they do not need one. */
  readonly callbackUrl?: URL | undefined;
  /** For contexts too large for a Secret; these require the callback. */
  readonly contexts?: ContextOffers | undefined;
}

/** A cluster drops fields that it does not know. */
const NO_HOST_USERS =
  'the cluster does not support hostUsers, so pods would be root on their nodes: set security: rootless, or privileged';
const IMAGE = 'docker.io/moby/buildkit:v0.34.2';
/** The rest of a Secret is small. */
const MAX_CONTEXT_BYTES = 512 * 1024;
/** The first probe also loads the library. */
const ANSWER_MS = 30_000;
/** The maximum time for deleting a Job: its pod has a grace period of seconds. */
const REMOVAL_MS = 25_000;
/** The time for reading the rest of a log after its pod has ended. */
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

  /** Throws BackendUnavailable where the nodes do not support the configuration. */
  async function chooseSecurity(cluster: Cluster): Promise<void> {
    if (options.security === 'rootless' || options.security === 'privileged') return;
    const fault = await cluster.findUserNamespaceFault(nodeSelector ? Object.values(nodeSelector) : [{}]);
    if (options.security === 'userns') {
      if (!fault?.isKnown) return;
      throw new BackendUnavailable(`security: userns: ${fault.reason}; set security: rootless, or privileged`);
    }
    security = fault ? 'rootless' : 'userns';
    withoutUserNamespaces = fault?.reason;
  }

  async function sweep(isUnderWay: IsUnderWay): Promise<void> {
    const cluster = getCluster();
    await cluster.watch();
    for (const { metadata } of cluster.listJobs()) {
      const { name: job = '', labels = {}, deletionTimestamp } = metadata ?? {};
      if (working.has(job) || deletionTimestamp || (await isUnderWay(labels[LABELS.build] ?? ''))) continue;
      await cluster.deleteJob(job);
    }
  }

  async function build(input: BuildInput, buildOptions: BuildOptions): Promise<BuildResult> {
    buildOptions.signal.throwIfAborted();
    const job = jobName(input);
    working.add(job);
    try {
      const cluster = getCluster();
      await cluster.watch();
      const image = options.image ?? (security === 'rootless' ? `${IMAGE}-rootless` : IMAGE);
      const timeoutMs = input.spec.timeoutMs ?? options.timeoutMs;
      const selector = nodeSelector && findSelector(nodeSelector, input.platforms);
      const { namespace } = cluster;
      const secret = `${job}-${randomBytes(4).toString('hex')}`;
      const jobOptions = { ...options, name: job, secret, namespace, instance, security, image, selector, timeoutMs };
      return await runJob(input, buildOptions, { cluster, options, jobOptions });
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
    findUnsupportedReason,
    listNotes: () => [...listSecurityNotes(security, withoutUserNamespaces), ...listCallbackNotes(callbackUrl)],
    build,
    sweep,
    close: async () => opened?.close(),
  };
}

/** With a map, platforms without a selector are not supported. */
function platformsOf({ platforms, nodeSelector }: KubernetesOptions): readonly Platform[] {
  if (!nodeSelector) return platforms ?? [{ os: 'linux', architecture: 'amd64' }];
  return (platforms ?? listSelected(nodeSelector)).filter(platform => findSelector(nodeSelector, [platform]));
}

function findUnsupportedReason(spec: ContainerFileSpec): string | undefined {
  if (spec.ssh.length > 0)
    return 'agents and keys of this machine are not available in pods: RUN --mount=type=ssh is not supported';
  if (spec.network === 'host') return 'a RUN cannot use the network of its node, only that of its pod';
  return findUnsupportedArgument(spec);
}

function listSecurityNotes(security: Security, withoutUserNamespaces: string | undefined): readonly string[] {
  const notes = {
    rootless: 'pods work without root; a RUN sees the processes of its own pod',
    userns: 'pods are root in their own user namespace',
    privileged: 'pods are root on their node: only run builds of trusted users there',
  } as const;
  const why = withoutUserNamespaces === undefined ? '' : `; no user namespaces: ${withoutUserNamespaces}`;
  return [`${security}: ${notes[security]}${why}`];
}

function listCallbackNotes(callbackUrl: URL | undefined): readonly string[] {
  const isLoopback = callbackUrl && /^(?:localhost|127\.[\d.]+|\[::1\])$/.test(callbackUrl.hostname);
  return isLoopback
    ? [`callbackUrl: ${callbackUrl.origin} is a pod itself, unless it uses the network of its node`]
    : [];
}

/** The requirements of one build besides its input. */
interface Work {
  readonly cluster: Cluster;
  readonly options: KubernetesOptions;
  readonly jobOptions: JobOptions;
}

/** Afterwards the Job is deleted with its pod and its Secret; it is retained when the service stops, to be resumed later. */
async function runJob(input: BuildInput, buildOptions: BuildOptions, work: Work): Promise<BuildResult> {
  const { cluster, options, jobOptions } = work;
  const { signal, report, resume } = buildOptions;
  const { name } = jobOptions;
  const { context, end } = await prepareContext(input, work);
  let isGood = false;
  try {
    const isFound = await beginJob(input, work, context);
    report({ kind: 'note', text: `${isFound ? 'resuming' : 'creating'} Job ${cluster.namespace}/${name}` });
    const { scheduleTimeoutMs } = options;
    const following = { cluster, name, requested: requestedOf(input, work), scheduleTimeoutMs };
    const digest = digestOf(
      await followJob(input, { signal, report, ...(isFound && resume && { resume }) }, following),
    );
    isGood = true;
    return { digest };
  } finally {
    if (!isClosing(signal)) await end();
    if (!isClosing(signal)) await removeJob(cluster, name, { isAwaited: !isGood });
  }
}

function requestedOf(input: BuildInput, { jobOptions, options }: Work): RequestedResources {
  const { selector, image, security, namespace, resources, timeoutMs } = jobOptions;
  const platforms = input.platforms.map(formatPlatform).join(', ');
  const memoryLimit = resources.limits.memory;
  const callbackUrl = options.callbackUrl?.origin;
  return { platforms, selector, image, security, namespace, memoryLimit, timeoutMs, callbackUrl };
}

/** True where the Job of an earlier process continues. */
async function beginJob(input: BuildInput, { cluster, jobOptions }: Work, context: PodContext): Promise<boolean> {
  const { name } = jobOptions;
  const job = createJob(input, jobOptions);
  let created = await cluster.createJob(job);
  if (!created) {
    const { metadata, spec } = cluster.see(name).job ?? {};
    // A Job that is still suspended may have no Secret.
    if (spec && !metadata?.deletionTimestamp && !spec.suspend) return true;
    await removeJob(cluster, name, { isAwaited: true });
    created = await cluster.createJob(job);
  }
  if (!created) throw failed('infrastructure', `the Job ${name} of an earlier attempt still exists`);
  if (jobOptions.security === 'userns' && created.spec?.template.spec?.hostUsers !== false)
    throw failed('infrastructure', NO_HOST_USERS);
  await cluster.createSecret(createSecret(input, created, { name: jobOptions.secret, context }));
  await cluster.resumeJob(name);
  return false;
}

/** What cannot be deleted now is deleted by a later sweep. */
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
    // The build ends independently of its Job.
  }
}

async function prepareContext(
  input: BuildInput,
  { options, jobOptions }: Work,
): Promise<{ readonly context: PodContext; end(): Promise<void> }> {
  const file = join(input.directory, 'context.cpio.gz');
  await pipeline(
    Readable.from(await packContext(join(input.directory, 'context'))),
    createWriteStream(file, { mode: 0o600 }),
  );
  const { size } = await stat(file);
  if (size <= MAX_CONTEXT_BYTES) return { context: { bytes: await readFile(file) }, end: async () => {} };
  const { contexts, callbackUrl } = options;
  if (!contexts || !callbackUrl) {
    const reason = `the build context has ${size} bytes compressed, and without callbackUrl pods cannot fetch more than ${MAX_CONTEXT_BYTES}`;
    throw failed('build', reason);
  }
  const { path, end } = await contexts.offer(jobOptions.name, file, jobOptions.timeoutMs + options.scheduleTimeoutMs);
  return { context: { url: new URL(path, callbackUrl).href }, end };
}

interface Following {
  readonly cluster: Cluster;
  readonly name: string;
  readonly requested: RequestedResources;
  readonly scheduleTimeoutMs: number;
}

interface Followed {
  readonly seen: Seen;
  readonly requested: RequestedResources;
  /** Of the last pod, if one started. */
  readonly progress: ProgressReader | undefined;
}

/** Follows the Job and its log to the end. Throws BuildFailure for a pod that does not start in time. */
async function followJob(input: BuildInput, options: BuildOptions, following: Following): Promise<Followed> {
  const { cluster, name, requested } = following;
  const { signal, report } = options;
  const over = new AbortController();
  const stop = AbortSignal.any([signal, over.signal]);
  const reportOnce = createReportOnce(report);
  const deadline = createScheduleDeadline(following.scheduleTimeoutMs, reason => over.abort(reason));
  const reader = createPodReader(input, { ...options, cluster, signal: stop });
  let wasThere = false;
  try {
    for await (const _ of cluster.changes(name, stop)) {
      const seen = cluster.see(name);
      if (!seen.job && wasThere) throw failed('infrastructure', `the Job ${name} was deleted by someone else`);
      wasThere ||= seen.job !== undefined;
      const refusal = describeRefusal(seen, requested);
      if (refusal !== undefined) throw failed('infrastructure', refusal);
      const wait = describeWait(seen, requested);
      for (const text of [wait, describeDisruption(seen.pod)]) reportOnce(text);
      deadline.update(hasBegun(seen.pod), wait);
      if (seen.pod && hasBegun(seen.pod)) reader.read(seen.pod);
      if (hasEnded(seen)) return { seen, requested, progress: await reader.end() };
    }
    throw new Error('the watch of a Job ended unexpectedly');
  } finally {
    deadline.end();
    over.abort();
  }
}

/** Repeated states are reported once. */
function createReportOnce(report: Report): (text: string | undefined) => void {
  const reported = new Set<string>();
  return text => {
    if (text === undefined || reported.has(text)) return;
    reported.add(text);
    report({ kind: 'note', text });
  };
}

/** The deadline for a pod to start, also for a replacement pod. */
function createScheduleDeadline(ms: number, giveUp: (reason: BuildFailure) => void) {
  let timer: NodeJS.Timeout | undefined;
  let why: string | undefined;
  const end = () => {
    clearTimeout(timer);
    timer = undefined;
  };
  return {
    update(hasBegun: boolean, wait: string | undefined) {
      why = wait ?? why;
      if (hasBegun) return end();
      timer ??= setTimeout(() => {
        const within = `it did not start within ${ms / 1000} s`;
        giveUp(failed('timeout', why === undefined ? within : `${why}; ${within}`));
      }, ms);
    },
    end,
  };
}

/** Reports each pod's log as build progress, replacement pods from their beginning. */
function createPodReader(input: BuildInput, options: BuildOptions & { readonly cluster: Cluster }) {
  const { cluster, signal, report, resume = async () => report } = options;
  let uid: string | undefined;
  let progress: ProgressReader | undefined;
  let reading: Promise<void> = Promise.resolve();

  /** From the beginning, even where an earlier process has read it: later lines refer to steps named earlier. */
  async function readAll(pod: V1Pod): Promise<void> {
    const text = `works in the pod ${pod.metadata?.name} on the node ${pod.spec?.nodeName}`;
    const reportPod = await resume(text);
    if (uid !== pod.metadata?.uid) return;
    reportPod({ kind: 'note', text });
    progress = createProgressReader(input.platforms, reportPod);
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
function digestOf({ seen, requested, progress }: Followed): Digest {
  const text = findDigest(seen);
  if (text === undefined) throw new BuildFailure(failureOf({ seen, requested, progress }));
  if (isDigest(text)) return text;
  throw failed('infrastructure', 'the Job succeeded, but did not report the digest that it pushed');
}

function failureOf({ seen, requested, progress }: Followed): Failure {
  const step = progress?.findFailed();
  const failure = describeEnd(seen, requested);
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
