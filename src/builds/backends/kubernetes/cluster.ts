// The Kubernetes API as needed for builds: creates and deletes objects, watches them, and reads pod logs.
import { EventEmitter, on } from 'node:events';
import { get as getHttp, type IncomingMessage } from 'node:http';
import { get as getHttps, type RequestOptions } from 'node:https';
import { setTimeout as wait } from 'node:timers/promises';
import {
  ApiException,
  AuthorizationV1Api,
  BatchV1Api,
  CoreV1Api,
  type CoreV1Event,
  KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  ListWatch,
  PatchStrategy,
  setHeaderOptions,
  type V1Job,
  type V1Node,
  type V1NodeRuntimeHandler,
  type V1Pod,
  type V1Secret,
  Watch,
} from '@kubernetes/client-node';
import { z } from 'zod';
import { bytesOf } from '../../context/tar.ts';
import { BackendUnavailable } from '../../execution.ts';
import { createLineSplitter } from '../../process.ts';
import { CONTAINER, LABELS } from './job.ts';
import type { Labels } from './node-selector.ts';
import type { Seen } from './outcome.ts';

export interface ClusterOptions {
  /** A path; absent: the service account of the pod that Veneer runs in. */
  readonly kubeconfig?: string | undefined;
  /** A context of the kubeconfig; absent: its current one. */
  readonly context?: string | undefined;
  /** Absent: that of the context, else `default`. */
  readonly namespace?: string | undefined;
  /** The label of our Jobs. */
  readonly instance: string;
}

export interface Cluster {
  readonly namespace: string;
  /** Throws BackendUnavailable where it does not answer, or our permissions are insufficient. */
  check(): Promise<void>;
  /** Why pods on a node with any of the labels may get no user namespace; undefined where all nodes support it. */
  findUserNamespaceFault(selectors: readonly Labels[]): Promise<UserNamespaceFault | undefined>;
  /** Undefined where one of this name exists. */
  createJob(job: V1Job): Promise<V1Job | undefined>;
  createSecret(secret: V1Secret): Promise<void>;
  /** Unsuspends a Job, so that its pod is created. */
  resumeJob(name: string): Promise<void>;
  /** Deletes its pods and its Secret as well; no effect where it does not exist. */
  deleteJob(name: string): Promise<void>;
  /** Starts watching. Throws BackendUnavailable. */
  watch(): Promise<void>;
  /** All our Jobs. */
  listJobs(): readonly V1Job[];
  see(name: string): Seen;
  /** Yields at once, and after each change of the Job or its pods, until the signal aborts; throws its reason. */
  changes(name: string, signal: AbortSignal): AsyncIterable<unknown>;
  /** The log of a pod whose container has started, to its end; resumes broken connections. Rejects with the signal's reason. */
  readLog(pod: V1Pod, onLine: (line: string) => void, options: LogOptions): Promise<void>;
  close(): Promise<void>;
}

interface UserNamespaceFault {
  readonly reason: string;
  /** False where we may not read nodes. */
  readonly isKnown: boolean;
}

interface LogOptions {
  readonly signal: AbortSignal;
  /** In UTF-16 units; longer lines are truncated. */
  readonly maxLineLength: number;
}

/** The delay after a broken connection. */
const RETRY_MS = 1000;
/** The delay after a log that ended while its pod seems to be running. */
const END_MS = 100;

/** Required permissions: verbs by resource, as in the Role in deploy/kubernetes.yaml. */
const RIGHTS = [
  ...['create', 'delete', 'list', 'patch', 'watch'].map(verb => ({ group: 'batch', resource: 'jobs', verb })),
  ...['list', 'watch'].map(verb => ({ group: '', resource: 'pods', verb })),
  { group: '', resource: 'pods', subresource: 'log', verb: 'get' },
  { group: '', resource: 'secrets', verb: 'create' },
  ...['list', 'watch'].map(verb => ({ group: '', resource: 'events', verb })),
];

/** Throws BackendUnavailable for an unusable kubeconfig. */
export function openCluster(options: ClusterOptions): Cluster {
  const config = loadConfig(options);
  const namespace = options.namespace ?? config.getContextObject(config.getCurrentContext())?.namespace ?? 'default';
  const batch = config.makeApiClient(BatchV1Api);
  const core = config.makeApiClient(CoreV1Api);
  const authorization = config.makeApiClient(AuthorizationV1Api);
  const closing = new AbortController();
  const changed = new EventEmitter();
  changed.setMaxListeners(0);
  const warnings = new Map<string, CoreV1Event>();

  const labelSelector = `${LABELS.instance}=${options.instance}`;
  const jobs = createInformer<V1Job>(`/apis/batch/v1/namespaces/${namespace}/jobs`, {
    labelSelector,
    list: () => batch.listNamespacedJob({ namespace, labelSelector }),
    onChange: job => emitChange(job.metadata?.name),
  });
  const pods = createInformer<V1Pod>(`/api/v1/namespaces/${namespace}/pods`, {
    labelSelector,
    list: () => core.listNamespacedPod({ namespace, labelSelector }),
    onChange: pod => emitChange(ownerOf(pod)),
  });
  const fieldSelector = 'type=Warning';
  const events = createInformer<CoreV1Event>(`/api/v1/namespaces/${namespace}/events`, {
    fieldSelector,
    list: () => core.listNamespacedEvent({ namespace, fieldSelector }),
    onChange: noteWarning,
  });
  let watching: Promise<void> | undefined;

  function createInformer<T extends KubernetesObject>(path: string, part: InformerOptions<T>): ListWatch<T> {
    const informer = new ListWatch<T>(
      path,
      new Watch(config),
      part.list,
      false,
      part.labelSelector,
      part.fieldSelector,
    );
    informer.on('change', part.onChange);
    informer.on('error', () => {
      // Resumes at the last resource version, or lists again where that has expired.
      wait(RETRY_MS, undefined, { signal: closing.signal }).then(
        () => informer.start(),
        () => undefined,
      );
    });
    return informer;
  }

  function emitChange(name: string | undefined): void {
    if (name !== undefined) changed.emit(name, undefined);
  }

  /** Events of unwatched Jobs are dropped. */
  function noteWarning(event: CoreV1Event): void {
    const about = event.involvedObject.name ?? '';
    const name = changed.eventNames().find(each => about === each || about.startsWith(`${String(each)}-`));
    if (typeof name !== 'string') return;
    warnings.set(name, event);
    emitChange(name);
  }

  async function startWatching(): Promise<void> {
    try {
      // A failed list is reported by the first request, and retried by the informers.
      await batch.listNamespacedJob({ namespace, labelSelector, limit: 1 });
    } catch (error) {
      throw unavailable(error);
    }
    await Promise.all([jobs.start(), pods.start(), events.start()]);
  }

  async function mayDo(right: (typeof RIGHTS)[number]): Promise<boolean> {
    const body = { spec: { resourceAttributes: { namespace, ...right } } };
    return (await authorization.createSelfSubjectAccessReview({ body })).status?.allowed === true;
  }

  return {
    namespace,
    async check() {
      const allowed = await Promise.all(RIGHTS.map(mayDo)).catch(error => Promise.reject(unavailable(error)));
      const missing = RIGHTS.filter((_, i) => !allowed[i]).map(nameRight);
      if (missing.length === 0) return;
      throw new BackendUnavailable(
        `in the namespace ${namespace} of the cluster Veneer may not: ${missing.join(', ')}; the Role is in deploy/kubernetes.yaml`,
      );
    },
    async findUserNamespaceFault(selectors) {
      try {
        const nodes = (await core.listNode()).items.filter(node => matchesAny(node, selectors));
        const without = nodes.find(({ status }) => !status?.runtimeHandlers?.some(isForUserNamespaces));
        if (!without) return nodes.length > 0 ? undefined : { reason: 'the cluster has no node yet', isKnown: false };
        return {
          reason: `the runtime of the node ${without.metadata?.name} does not report support for them`,
          isKnown: true,
        };
      } catch (error) {
        return { reason: `nodes cannot be read: ${explain(error)}`, isKnown: false };
      }
    },
    createJob: job => batch.createNamespacedJob({ namespace, body: job }).catch(error => unless(409, error)),
    async createSecret(secret) {
      await core.createNamespacedSecret({ namespace, body: secret }).catch(error => Promise.reject(unavailable(error)));
    },
    async resumeJob(name) {
      const merge = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
      await batch
        .patchNamespacedJob({ namespace, name, body: { spec: { suspend: false } } }, merge)
        .catch(error => Promise.reject(unavailable(error)));
    },
    async deleteJob(name) {
      const propagationPolicy = 'Foreground';
      await batch.deleteNamespacedJob({ namespace, name, propagationPolicy }).catch(error => unless(404, error));
    },
    async watch() {
      watching ??= startWatching();
      await watching.catch(error => {
        watching = undefined;
        throw error;
      });
    },
    listJobs: () => jobs.list(namespace),
    see(name) {
      const own = pods.list(namespace).filter(pod => ownerOf(pod) === name);
      const pod = own.toSorted((a, b) => createdAt(b) - createdAt(a))[0];
      return { job: jobs.get(name, namespace), pod, warning: warnings.get(name) };
    },
    async *changes(name, signal) {
      signal.throwIfAborted();
      const following = on(changed, name, { signal });
      try {
        yield undefined;
        yield* following;
      } catch (error) {
        signal.throwIfAborted();
        throw error;
      } finally {
        await following.return?.();
        if (changed.listenerCount(name) === 0) warnings.delete(name);
      }
    },
    readLog: (pod, onLine, logOptions) => readLog(config, { namespace, pod, isThere: isRunning }, onLine, logOptions),
    async close() {
      closing.abort();
      await Promise.all([jobs.stop(), pods.stop(), events.stop()]);
    },
  };

  function isRunning(pod: V1Pod): boolean {
    const now = pods.get(pod.metadata?.name ?? '', namespace);
    return now?.status?.containerStatuses?.some(({ state }) => state?.running !== undefined) ?? false;
  }
}

interface InformerOptions<T extends KubernetesObject> {
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
  readonly list: () => Promise<KubernetesListObject<T>>;
  readonly onChange: (object: T) => void;
}

function loadConfig({ kubeconfig, context }: ClusterOptions): KubeConfig {
  const config = new KubeConfig();
  try {
    if (kubeconfig === undefined) config.loadFromCluster();
    else config.loadFromFile(kubeconfig);
    if (context !== undefined) config.setCurrentContext(context);
    if (!config.getCurrentCluster()) throw new Error('it has no cluster');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new BackendUnavailable(`${kubeconfig ?? 'the service account of the pod'} cannot be used: ${reason}`, {
      cause,
    });
  }
  return config;
}

function matchesAny({ metadata }: V1Node, selectors: readonly Labels[]): boolean {
  const { labels = {} } = metadata ?? {};
  return selectors.some(selector => Object.entries(selector).every(([name, value]) => labels[name] === value));
}

function isForUserNamespaces({ features }: V1NodeRuntimeHandler): boolean {
  return features?.userNamespaces === true;
}

function ownerOf(pod: V1Pod): string | undefined {
  return pod.metadata?.ownerReferences?.find(({ kind }) => kind === 'Job')?.name;
}

/** Objects from a watch have times as text, whatever their type says. */
function createdAt({ metadata }: V1Pod): number {
  return new Date(metadata?.creationTimestamp ?? 0).getTime();
}

function nameRight({ verb, resource, subresource }: { verb: string; resource: string; subresource?: string }): string {
  return `${verb} ${subresource === undefined ? resource : `${resource}/${subresource}`}`;
}

function unless(code: number, error: unknown): undefined {
  if (error instanceof ApiException && error.code === code) return undefined;
  throw unavailable(error);
}

const statusSchema = z.object({ message: z.string() });

function unavailable(error: unknown): BackendUnavailable {
  return new BackendUnavailable(`the cluster refused the request: ${explain(error)}`, { cause: error });
}

function explain(error: unknown): string {
  if (error instanceof ApiException) return `${error.code}: ${explainBody(error.body)}`;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}

function explainBody(body: unknown): string {
  try {
    return statusSchema.parse(typeof body === 'string' ? JSON.parse(body) : body).message.slice(0, 300);
  } catch {
    return 'without a reason';
  }
}

interface LogPosition {
  readonly namespace: string;
  readonly pod: V1Pod;
  /** Whether more may follow. */
  readonly isThere: (pod: V1Pod) => boolean;
}

/** The library's own reader leaves the error of a broken connection unhandled, which would end the process. */
async function readLog(
  config: KubeConfig,
  { namespace, pod, isThere }: LogPosition,
  onLine: (line: string) => void,
  { signal, maxLineLength }: LogOptions,
): Promise<void> {
  let last = '';
  for (;;) {
    const isLast = !isThere(pod);
    let pauseMs = RETRY_MS;
    const splitter = createLineSplitter(line => {
      const space = line.indexOf(' ');
      const at = line.slice(0, space);
      // The resolution is whole seconds: lines already read are sent again and skipped.
      if (at <= last) return;
      last = at;
      onLine(line.slice(space + 1));
    }, maxLineLength);
    try {
      for await (const chunk of await openLog(config, { namespace, pod, since: last }, signal)) splitter.write(chunk);
      splitter.end();
      if (isLast || !isThere(pod)) return;
      // The end of the log arrives before that of the watch.
      pauseMs = END_MS;
    } catch {
      signal.throwIfAborted();
      if (isLast) return;
    }
    await wait(pauseMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

async function openLog(
  config: KubeConfig,
  { namespace, pod, since }: { namespace: string; pod: V1Pod; since: string },
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array>> {
  const server = config.getCurrentCluster()?.server ?? '';
  const url = new URL(`${server}/api/v1/namespaces/${namespace}/pods/${pod.metadata?.name ?? ''}/log`);
  const query = { container: CONTAINER, follow: 'true', timestamps: 'true', ...(since && { sinceTime: since }) };
  url.search = String(new URLSearchParams(query));
  const options: RequestOptions = {};
  await config.applyToHTTPSOptions(options);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const get = url.protocol === 'http:' ? getHttp : getHttps;
    get(url, { ...options, signal }, resolve).on('error', reject);
  });
  if (response.statusCode !== 200) {
    response.resume();
    throw new BackendUnavailable(`reading the log of a pod failed with status ${response.statusCode}`);
  }
  return bytesOf(response);
}
