// The objects of one part of a build: a Job, and the Secret that it owns. Pure. Secrets are only in the Secret, never in the Job.
import { createHash } from 'node:crypto';
import type {
  V1Job,
  V1JobSpec,
  V1PodSpec,
  V1Secret,
  V1Toleration,
  V1Volume,
  V1VolumeMount,
} from '@kubernetes/client-node';
import { formatPlatform } from '../../../oci/platform.ts';
import type { BuildInput } from '../../backend.ts';
import { BuildFailure } from '../../execution.ts';
import { buildArguments } from '../buildkit/command.ts';
import { createSourcePolicy } from '../buildkit/source-policy.ts';
import { dockerConfig, FILE_NAME, type Workspace } from '../buildkit/workspace.ts';
import type { Labels } from './node-selector.ts';

export interface PodOptions {
  readonly image: string;
  readonly serviceAccount?: string | undefined;
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly priorityClass?: string | undefined;
  readonly tolerations: readonly Toleration[];
  readonly affinity?: V1PodSpec['affinity'];
  readonly resources: { readonly requests: Labels; readonly limits: Labels };
  readonly storage: Storage;
}

interface Toleration {
  readonly key?: string | undefined;
  readonly operator?: string | undefined;
  readonly value?: string | undefined;
  readonly effect?: string | undefined;
  readonly tolerationSeconds?: number | undefined;
}

/** The storage of a pod: deleted with it, or its own folder in an existing volume, which it empties at the end. */
type Storage =
  | { readonly kind: 'emptyDir'; readonly size?: string | undefined }
  | { readonly kind: 'claim'; readonly claim: string; readonly subPath: string }
  | { readonly kind: 'hostPath'; readonly hostPath: string };

/** `rootless`: BuildKit without root. `userns`: root in a user namespace of the pod. `privileged`: root of the node. */
export type Security = 'rootless' | 'userns' | 'privileged';

export interface JobOptions extends PodOptions {
  readonly name: string;
  /** The name of its Secret, different each time, as that of an earlier Job of the same name may still be being deleted. */
  readonly secret: string;
  readonly namespace: string;
  /** Identifies this Veneer. */
  readonly instance: string;
  readonly security: Security;
  readonly selector?: Labels | undefined;
  readonly timeoutMs: number;
  /** The address of Veneer for the pod; undefined where it does not need one. */
  readonly callbackUrl?: URL | undefined;
}

export const CONTAINER = 'build';
export const LABELS = { instance: 'veneer/instance', build: 'veneer/build' } as const;
/** The exit codes of a pod that did not get to its build. */
export const EXIT_CODES = { callback: 90, context: 91, storage: 92, rootless: 93 } as const;

const CONFIG = '/veneer/config';
const WORK = '/veneer/work';
const STATE: Readonly<Record<Security, string>> = {
  rootless: '/home/user/.local/share/buildkit',
  userns: '/var/lib/buildkit',
  privileged: '/var/lib/buildkit',
};
const ROOTLESS_USER = 1000;
/** A shell as the first process ignores SIGTERM: this is how long a cancelled pod takes. */
const GRACE_SECONDS = 1;
/** Veneer deletes finished Jobs; this is for those of one that never came back. */
const TTL_SECONDS = 3600;
/** The size limit of a Secret. */
const MAX_SECRET_BYTES = 1024 * 1024;

const CONTEXT = 'context.cpio.gz';
const CONTEXT_URL = 'context-url';

/** The same for the same part of the same build, so that it can be found again. */
export function jobName({ id, target, platforms }: Pick<BuildInput, 'id' | 'target' | 'platforms'>): string {
  const part = createHash('sha256').update([target.image, ...platforms.map(formatPlatform)].join('\n'));
  return `veneer-${id.toLowerCase().replaceAll('_', '-')}-${part.digest('hex').slice(0, 8)}`;
}

/** Created suspended: its pod is created once the Secret exists. */
export function createJob(input: BuildInput, options: JobOptions): V1Job {
  const { name, namespace, instance, labels, annotations, timeoutMs } = options;
  const own = {
    ...labels,
    'app.kubernetes.io/managed-by': 'veneer',
    'app.kubernetes.io/component': 'build',
    [LABELS.instance]: instance,
    [LABELS.build]: input.id,
  };
  const jobAnnotations = { ...annotations, 'veneer/platforms': input.platforms.map(formatPlatform).join(',') };
  return {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name, namespace, labels: own, annotations: jobAnnotations },
    spec: {
      suspend: true,
      completions: 1,
      backoffLimit: 0,
      podFailurePolicy: POD_FAILURE_POLICY,
      activeDeadlineSeconds: Math.ceil(timeoutMs / 1000),
      ttlSecondsAfterFinished: TTL_SECONDS,
      template: { metadata: { labels: own, annotations: jobAnnotations }, spec: createPod(input, options) },
    },
  };
}

/** A pod that lost its node, or was evicted, is replaced; one that failed has failed. */
const POD_FAILURE_POLICY: NonNullable<V1JobSpec['podFailurePolicy']> = {
  rules: [
    { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
    { action: 'FailJob', onExitCodes: { containerName: CONTAINER, operator: 'NotIn', values: [0] } },
  ],
};

function createPod(input: BuildInput, options: JobOptions): V1PodSpec {
  const { secret, security, selector, tolerations, affinity, priorityClass, serviceAccount } = options;
  return {
    restartPolicy: 'Never',
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: GRACE_SECONDS,
    ...(security === 'userns' && { hostUsers: false }),
    ...(selector && { nodeSelector: { ...selector } }),
    ...(tolerations.length > 0 && { tolerations: tolerations.map(tolerationOf) }),
    ...(affinity && { affinity }),
    ...(priorityClass !== undefined && { priorityClassName: priorityClass }),
    ...(serviceAccount !== undefined && { serviceAccountName: serviceAccount }),
    ...(security === 'rootless' && { securityContext: { fsGroup: ROOTLESS_USER } }),
    containers: [createContainer(input, options)],
    volumes: [{ name: 'config', secret: { secretName: secret, defaultMode: 0o440 } }, ...volumesOf(options)],
  };
}

function tolerationOf({ key, operator, value, effect, tolerationSeconds }: Toleration): V1Toleration {
  return {
    ...(key !== undefined && { key }),
    ...(operator !== undefined && { operator }),
    ...(value !== undefined && { value }),
    ...(effect !== undefined && { effect }),
    ...(tolerationSeconds !== undefined && { tolerationSeconds }),
  };
}

function createContainer(input: BuildInput, options: JobOptions): V1PodSpec['containers'][number] {
  const { image, security, resources, storage, callbackUrl } = options;
  const { requests, limits } = resources;
  const script = storage.kind === 'emptyDir' ? SCRIPT : `${EMPTY_AFTERWARDS}${SCRIPT}`;
  return {
    name: CONTAINER,
    image,
    command: ['/bin/sh', '-c', script, CONTAINER].map(escapeReferences),
    args: buildArguments(input, podWorkspace(input)).map(escapeReferences),
    env: [
      { name: 'DOCKER_CONFIG', value: CONFIG },
      { name: 'BUILDKITD_FLAGS', value: daemonFlags(security) },
      { name: 'BUILDCTL_CONNECT_RETRIES_MAX', value: '60' },
      { name: 'STATE', value: STATE[security] },
      ...(callbackUrl ? [{ name: 'CALLBACK', value: callbackUrl.origin }] : []),
    ],
    securityContext: securityOf(security),
    resources: { requests: { ...requests }, limits: { ...limits } },
    volumeMounts: [{ name: 'config', mountPath: CONFIG, readOnly: true }, ...mountsOf(options)],
  };
}

function daemonFlags(security: Security): string {
  const config = `--config ${CONFIG}/buildkitd.toml`;
  return security === 'rootless' ? `${config} --oci-worker-no-process-sandbox` : config;
}

/** BuildKit's requirements, as in its own examples for Kubernetes. */
function securityOf(security: Security): NonNullable<V1PodSpec['containers'][number]['securityContext']> {
  if (security !== 'rootless') return { privileged: true };
  return {
    runAsUser: ROOTLESS_USER,
    runAsGroup: ROOTLESS_USER,
    // Rootless BuildKit creates its own namespaces, which the default profiles forbid, through newuidmap, which is setuid.
    allowPrivilegeEscalation: true,
    seccompProfile: { type: 'Unconfined' },
    appArmorProfile: { type: 'Unconfined' },
  };
}

/** Kubernetes expands `$(NAME)` in commands; `$$` is a dollar. */
function escapeReferences(text: string): string {
  return text.replaceAll('$', '$$$$');
}

function volumesOf({ storage }: JobOptions): readonly V1Volume[] {
  switch (storage.kind) {
    case 'emptyDir': {
      const emptyDir = storage.size === undefined ? {} : { sizeLimit: storage.size };
      return [
        { name: 'work', emptyDir },
        { name: 'state', emptyDir },
      ];
    }
    case 'claim':
      return [{ name: 'storage', persistentVolumeClaim: { claimName: storage.claim } }];
    case 'hostPath':
      return [{ name: 'storage', hostPath: { path: storage.hostPath, type: 'DirectoryOrCreate' } }];
  }
}

function mountsOf({ name, storage, security }: JobOptions): readonly V1VolumeMount[] {
  const mountPaths = { work: WORK, state: STATE[security] };
  return Object.entries(mountPaths).map(([volume, mountPath]) => {
    if (storage.kind === 'emptyDir') return { name: volume, mountPath };
    const parent = storage.kind === 'claim' && storage.subPath !== '' ? `${storage.subPath}/` : '';
    return { name: 'storage', mountPath, subPath: `${parent}${name}/${volume}` };
  });
}

/** Paths in the pod of the files for buildctl. */
function podWorkspace({ secrets }: BuildInput): Workspace {
  return {
    context: `${WORK}/context`,
    file: `${WORK}/file`,
    home: CONFIG,
    secrets: new Map([...secrets.keys()].map((id, i) => [id, `${CONFIG}/${secretKey(i)}`])),
    sourcePolicy: `${CONFIG}/source-policy.json`,
    metadata: `${WORK}/metadata.json`,
  };
}

function secretKey(at: number): string {
  return `secret-${at}`;
}

/** For BusyBox. Retries while Veneer restarts. The digest is written to where the API exposes it, since logs may be truncated. */
const SCRIPT = `set -eu
fetch() {
  try=0
  until timeout "$3" wget -q -O "$1" "$2"; do
    try=$((try + 1))
    [ $try -lt 5 ] || return 1
    sleep $try
  done
}
if [ -n "\${CALLBACK:-}" ]; then
  fetch /dev/null "$CALLBACK/health/live" 20 || exit ${EXIT_CODES.callback}
fi
mkdir -p ${WORK}/context ${WORK}/file && [ -w "$STATE" ] || exit ${EXIT_CODES.storage}
if [ "$(id -u)" != 0 ] && ! said=$(rootlesskit sh -c : 2>&1); then
  echo "$said" | tee /dev/termination-log >&2
  exit ${EXIT_CODES.rootless}
fi
cp ${CONFIG}/${FILE_NAME} ${WORK}/file/
if [ -f ${CONFIG}/${CONTEXT_URL} ]; then
  fetch ${WORK}/${CONTEXT} "$(cat ${CONFIG}/${CONTEXT_URL})" 600 || exit ${EXIT_CODES.context}
else
  cp ${CONFIG}/${CONTEXT} ${WORK}/
fi
gunzip -t ${WORK}/${CONTEXT} || exit ${EXIT_CODES.context}
( cd ${WORK}/context && gunzip -c ../${CONTEXT} | cpio -i -d 2>/dev/null && find . -print0 | xargs -0 touch -h -d @0 ) || exit ${EXIT_CODES.context}
rm ${WORK}/${CONTEXT}
buildctl-daemonless.sh "$@"
sed -n 's/.*"containerimage.digest": *"\\([^"]*\\)".*/\\1/p' ${WORK}/metadata.json > /dev/termination-log
`;

const EMPTY_AFTERWARDS = `trap 'rm -rf ${WORK}/* "$STATE"/* 2>/dev/null || true' EXIT\n`;

export type PodContext = { readonly bytes: Uint8Array } | { readonly url: string };

/** Owned by the Job, and deleted with it. Throws BuildFailure for content that does not fit in a Secret. */
export function createSecret(
  input: BuildInput,
  job: V1Job,
  { name: secret, context }: { readonly name: string; readonly context: PodContext },
): V1Secret {
  const files: Readonly<Record<string, string | Uint8Array>> = {
    'config.json': JSON.stringify(dockerConfig(input.credentials)),
    'buildkitd.toml': daemonConfig(input),
    'source-policy.json': JSON.stringify(createSourcePolicy(input)),
    [FILE_NAME]: input.spec.containerFile,
    ...Object.fromEntries([...input.secrets.values()].map((value, i) => [secretKey(i), value])),
    ...('url' in context ? { [CONTEXT_URL]: context.url } : { [CONTEXT]: context.bytes }),
  };
  const data = Object.entries(files).map(([key, value]) => [key, Buffer.from(value)] as const);
  const bytes = data.reduce((sum, [, value]) => sum + value.byteLength, 0);
  if (bytes > MAX_SECRET_BYTES) throw tooLarge(bytes);
  const { name = '', namespace, labels, uid = '' } = job.metadata ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Secret',
    immutable: true,
    type: 'Opaque',
    metadata: {
      name: secret,
      ...(namespace !== undefined && { namespace }),
      ...(labels && { labels }),
      ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name, uid }],
    },
    data: Object.fromEntries(data.map(([key, value]) => [key, value.toString('base64')])),
  };
}

function tooLarge(bytes: number): BuildFailure {
  const reason = `the Containerfile and the secrets of the build have ${bytes} bytes together, and a Secret of Kubernetes holds ${MAX_SECRET_BYTES}`;
  return new BuildFailure({ kind: 'build', reason });
}

/** The registries that speak plain HTTP. */
function daemonConfig({ target, cache, bases }: BuildInput): string {
  const repositories = [target, ...(cache ? [cache] : []), ...bases.values()];
  const hosts = repositories.filter(({ isInsecure }) => isInsecure).map(({ name }) => name.split('/', 1)[0] ?? '');
  return [...new Set(hosts)].map(host => `[registry.${JSON.stringify(host)}]\nhttp = true\n`).join('');
}
