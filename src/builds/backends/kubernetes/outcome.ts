// Explains the state of a Job and its pod: why it does not start, and why it failed.
import type { CoreV1Event, V1ContainerStatus, V1Job, V1Pod } from '@kubernetes/client-node';
import type { Failure } from '../../record.ts';
import { CONTAINER, EXIT_CODES, type Security } from './job.ts';
import { formatLabels, type Labels } from './node-selector.ts';

/** The current state of a Job. */
export interface Seen {
  readonly job: V1Job | undefined;
  /** The newest of its pods. */
  readonly pod: V1Pod | undefined;
  /** The last warning event about the Job or a pod of it. */
  readonly warning: CoreV1Event | undefined;
}

/** Its parameters, for messages. */
export interface RequestedResources {
  /** Such as `linux/s390x`. */
  readonly platforms: string;
  readonly selector: Labels | undefined;
  readonly image: string;
  readonly security: Security;
  readonly memoryLimit: string | undefined;
  readonly timeoutMs: number;
  readonly callbackUrl: string | undefined;
  readonly namespace: string;
}

const MAX_MESSAGE = 240;
/** Shells add this to the number of a signal. */
const EXIT_BY_SIGNAL = 128;
const IMAGE_REASONS = ['ErrImagePull', 'ImagePullBackOff', 'InvalidImageName', 'ErrImageNeverPull'];
/** Events that the pod's own status does not show. */
const WARNINGS: Readonly<Record<string, string>> = {
  FailedCreate: 'the pod cannot be created',
  FailedMount: 'a volume of the pod is not available',
  FailedAttachVolume: 'a volume of the pod is not available',
  FailedCreatePodSandBox: 'the pod is not started',
};

/** Why the pod is not running yet; undefined where nothing is wrong. */
export function describeWait({ pod, warning }: Seen, requested: RequestedResources): string | undefined {
  const waiting = containerOf(pod)?.state?.waiting;
  const reason = waiting?.reason ?? '';
  if (IMAGE_REASONS.includes(reason))
    return `the image ${requested.image} cannot be pulled: ${cut(waiting?.message ?? reason)}`;
  if (/Error$/.test(reason)) return `the pod cannot start: ${reason}: ${cut(waiting?.message ?? '')}`;
  const unscheduled = pod?.status?.conditions?.find(
    ({ type, status }) => type === 'PodScheduled' && status === 'False',
  );
  if (unscheduled?.reason === 'Unschedulable') return describeUnschedulable(unscheduled.message ?? '', requested);
  const what = warning?.reason === undefined ? undefined : WARNINGS[warning.reason];
  return what && !hasBegun(pod) ? `${what}: ${cut(warning?.message ?? '')}` : undefined;
}

/** Errors that waiting will not fix, with their fix. */
export function describeRefusal(
  { pod, warning }: Seen,
  { security, namespace }: RequestedResources,
): string | undefined {
  const { reason, message = '' } = warning ?? {};
  if (reason === 'FailedCreate' && /violates PodSecurity/.test(message)) {
    return `the namespace ${namespace} does not admit pods with security: ${security}: ${cut(message)}; use a namespace with the label pod-security.kubernetes.io/enforce=privileged`;
  }
  if (
    reason === 'FailedCreatePodSandBox' &&
    security === 'userns' &&
    !hasBegun(pod) &&
    /user ?ns|user namespace/i.test(message)
  ) {
    return `the node ${pod?.spec?.nodeName} does not support user namespaces for pods: ${cut(message)}; set security: rootless, or privileged`;
  }
  return undefined;
}

function describeUnschedulable(message: string, { platforms, selector }: RequestedResources): string {
  const labels = selector && formatLabels(selector);
  const said = cut(message.split(/ (?:preemption|no new claims)/)[0] ?? '');
  const [, nodes] = /^0\/(\d+) nodes/.exec(message) ?? [];
  const [, others] = /(\d{1,9}) node\(s\) didn't match Pod's node affinity\/selector/.exec(message) ?? [];
  if (labels !== undefined && nodes !== undefined && nodes === others) {
    return `no node for ${platforms} matches ${labels}: ${said}`;
  }
  return `no node accepts the pod for ${platforms}${labels === undefined ? '' : ` (${labels})`}: ${said}`;
}

export function hasBegun(pod: V1Pod | undefined): boolean {
  const state = containerOf(pod)?.state;
  return state?.running !== undefined || state?.terminated !== undefined;
}

/** Whether its final state is known. A pod that ended normally reports it a second before its Job does. */
export function hasEnded({ job, pod }: Seen): boolean {
  const isOver = conditionOf(job, 'Complete') ?? conditionOf(job, 'Failed');
  const end = containerOf(pod)?.state?.terminated;
  if (isOver) return !hasBegun(pod) || end !== undefined;
  return end !== undefined && end.exitCode < EXIT_BY_SIGNAL && !isUnwanted(pod);
}

/** The termination message of a successful pod: the digest. */
export function findDigest({ job, pod }: Seen): string | undefined {
  const end = containerOf(pod)?.state?.terminated;
  return conditionOf(job, 'Complete') || end?.exitCode === 0 ? (end?.message?.trim() ?? '') : undefined;
}

/** Whether it is being deleted: the Job then decides the outcome. */
function isUnwanted(pod: V1Pod | undefined): boolean {
  return pod?.metadata?.deletionTimestamp !== undefined || describeDisruption(pod) !== undefined;
}

/** Why a Job failed, unless it was the build itself; undefined if the reason is in its log. */
export function describeEnd({ job, pod }: Seen, requested: RequestedResources): Failure | undefined {
  const failed = conditionOf(job, 'Failed');
  if (failed?.reason === 'DeadlineExceeded') {
    return {
      kind: 'timeout',
      reason: `it did not finish within ${requested.timeoutMs / 1000} s, the deadline of its Job`,
    };
  }
  const end = containerOf(pod)?.state?.terminated;
  if (end?.reason === 'OOMKilled') {
    const limit =
      requested.memoryLimit === undefined ? 'the node ran out of memory' : `the limit is ${requested.memoryLimit}`;
    return { kind: 'build', reason: `out of memory: ${limit}` };
  }
  const disrupted = describeDisruption(pod);
  if (disrupted !== undefined) return { kind: 'infrastructure', reason: disrupted };
  if (end?.exitCode === EXIT_CODES.callback) {
    const reason = `the pod cannot reach Veneer at ${requested.callbackUrl}: the callbackUrl of the backend must be reachable from inside the cluster`;
    return { kind: 'infrastructure', reason };
  }
  if (end?.exitCode === EXIT_CODES.context) {
    return { kind: 'infrastructure', reason: 'the pod could not fetch or unpack the build context' };
  }
  if (end?.exitCode === EXIT_CODES.storage) {
    const reason = `the pod may not write to its storage${requested.security === 'rootless' ? ' as user 1000, without root: give that user the volume, or set security: userns or privileged' : ''}`;
    return { kind: 'infrastructure', reason };
  }
  if (end?.exitCode === EXIT_CODES.rootless) {
    const where = pod?.spec?.nodeName === undefined ? 'the node' : `the node ${pod.spec.nodeName}`;
    const reason = `${where} does not allow a rootless pod to create namespaces: ${cut(end.message ?? '')}; allow it (user.max_user_namespaces, AppArmor, an image with newuidmap), or set security: userns or privileged`;
    return { kind: 'infrastructure', reason };
  }
  if (end) return undefined;
  const words = [failed?.reason, failed?.message].filter(part => part !== undefined && part !== '').join(': ');
  return { kind: 'infrastructure', reason: `the pod failed: ${cut(words)}` };
}

/** Why a pod was disrupted; undefined for one that ended on its own. */
export function describeDisruption(pod: V1Pod | undefined): string | undefined {
  const { reason, message, conditions = [] } = pod?.status ?? {};
  if (reason === 'Evicted') return `the pod was evicted: ${cut(message ?? '')}`;
  const target = conditions.find(({ type, status }) => type === 'DisruptionTarget' && status === 'True');
  return target && `the pod was disrupted: ${cut([target.reason, target.message].filter(Boolean).join(': '))}`;
}

/** How the container ended, such as `exit code 1`. */
export function describeExit({ pod }: Seen): string {
  const end = containerOf(pod)?.state?.terminated;
  return end?.signal ? `signal ${end.signal}` : `exit code ${end?.exitCode ?? 'unknown'}`;
}

function containerOf(pod: V1Pod | undefined): V1ContainerStatus | undefined {
  return pod?.status?.containerStatuses?.find(({ name }) => name === CONTAINER);
}

function conditionOf(job: V1Job | undefined, wanted: string) {
  return job?.status?.conditions?.find(({ type, status }) => type === wanted && status === 'True');
}

function cut(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > MAX_MESSAGE ? `${line.slice(0, MAX_MESSAGE)}…` : line;
}
