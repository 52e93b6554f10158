// A real Kubernetes for a suite: its control plane, and two nodes with a kubelet and a containerd each, all on the loopback of this machine.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { globSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { CoreV1Api, Health, KubeConfig, KubernetesObjectApi, loadAllYaml } from '@kubernetes/client-node';
import { stringify } from 'yaml';
import { parsePlatform } from '../../../src/oci/platform.ts';
import { clientPath, searchPath } from '../support/clients.ts';
import type { Environment } from '../support/environment.ts';
import { findFreePort, type Killable, run, startProcess, waitUntil } from '../support/process.ts';
import { pushClusterImages } from './cluster-images.ts';

/** The commands that a cluster needs. */
export const CLUSTER_COMMANDS = [
  ...['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubelet'],
  ...['containerd', 'runc', 'unshare'],
] as const;

export interface Cluster {
  /** Of an administrator. */
  readonly admin: KubeConfig;
  /** A file that opens it as deploy/kubernetes.yaml has it for Veneer: with the rights of its Role, and no more. */
  readonly kubeconfig: string;
  /** Of an administrator, as a file. */
  readonly adminKubeconfig: string;
  /** Where builds work, with those rights. */
  readonly namespace: string;
  /** Of the API server. */
  readonly server: string;
  /** BuildKit with root and a shell, for pods. */
  readonly image: string;
  /** The same as BuildKit has it without root. */
  readonly rootlessImage: string;
  /** Kills the API server, lets the work be done without it, and starts it again at the same address, with all that it knew. */
  withoutServer(work: () => Promise<void>): Promise<void>;
  /** One more, until it is killed or the environment ends. */
  addNode(options: { readonly name: string; readonly service: string }): Promise<Node>;
}

export interface Node {
  /** As its machine would go: with all that runs on it, and without a word. */
  kill(): Promise<void>;
}

const NODES = [
  { name: '127.0.0.1', service: 'wave-build' },
  { name: 'localhost', service: 'wave-build-arm64' },
] as const;
const NAMESPACE = 'veneer';

/** Ends with the environment, in whose registry its images are. The second node is for arm64 by its labels; both have the processor of this machine. */
export async function startCluster(environment: Environment): Promise<Cluster> {
  const folder = await mkdtemp(join(environment.folder, 'cluster-'));
  const [images, plane] = await Promise.all([
    pushClusterImages(environment, folder),
    startControlPlane(environment, folder),
  ]);
  const objects = KubernetesObjectApi.makeApiClient(plane.admin);
  for (const object of [...loadAllYaml(HOST_NETWORK), ...(await readDeployed())]) await objects.create(object);
  const core = plane.admin.makeApiClient(CoreV1Api);

  async function addNode({ name, service }: { readonly name: string; readonly service: string }): Promise<Node> {
    const node = await startNode(environment, folder, { name, service, pause: images.pause });
    await waitUntil(async () => {
      const { status } = await core.readNode({ name });
      if (!status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True'))
        throw new Error(`the node ${name} is not ready`);
    });
    return node;
  }

  await Promise.all(NODES.map(addNode));
  const kubeconfig = join(folder, 'veneer.kubeconfig');
  await writeFile(kubeconfig, configFile(plane.server, await findToken(core)), { mode: 0o600 });
  const { admin, server, withoutServer } = plane;
  const { buildkit, rootless } = images;
  return {
    ...{
      admin,
      adminKubeconfig: join(folder, 'nodes.kubeconfig'),
      server,
      kubeconfig,
      namespace: NAMESPACE,
      image: buildkit,
      rootlessImage: rootless,
    },
    withoutServer,
    addNode,
  };
}

/** There is no network of pods: each has that of the machine, with the registry of the lab. */
const HOST_NETWORK = `
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: { name: host-network }
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules: [{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods] }]
  # One with users of its own may not have it.
  matchConditions: [{ name: has-users-of-node, expression: "!has(object.spec.hostUsers) || object.spec.hostUsers" }]
  mutations:
    - patchType: ApplyConfiguration
      applyConfiguration: { expression: "Object{spec: Object.spec{hostNetwork: true}}" }
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: { name: host-network }
spec: { policyName: host-network }
`;

/** What is deployed of Veneer's rights, as it is. */
async function readDeployed() {
  const kinds = ['Namespace', 'ServiceAccount', 'Role', 'RoleBinding'];
  const objects = loadAllYaml(await readFile('deploy/kubernetes.yaml', 'utf8'));
  return objects.filter(({ kind = '' }) => kinds.includes(kind));
}

async function findToken(core: CoreV1Api): Promise<string> {
  const body = { spec: { audiences: [], expirationSeconds: 7200 } };
  const { status } = await core.createNamespacedServiceAccountToken({ name: 'veneer', namespace: NAMESPACE, body });
  return status?.token ?? '';
}

async function startControlPlane(environment: Environment, folder: string) {
  const [etcd, peer, port] = [await findFreePort(), await findFreePort(), await findFreePort()];
  const server = `https://127.0.0.1:${port}`;
  const pem = (name: string) => resolve('fixtures/certificates', name);
  const token = randomBytes(16).toString('hex');
  await writeFile(join(folder, 'tokens.csv'), `${token},admin,admin,"system:masters"\n`, { mode: 0o600 });
  await writeFile(join(folder, 'nodes.kubeconfig'), configFile(server, token), { mode: 0o600 });
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  await writeFile(join(folder, 'accounts.key'), privateKey.export({ type: 'sec1', format: 'pem' }), { mode: 0o600 });
  await writeFile(join(folder, 'accounts.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
  const admin = new KubeConfig();
  admin.loadFromString(configFile(server, token));

  const [client, cluster] = [`http://127.0.0.1:${etcd}`, `http://127.0.0.1:${peer}`];
  await environment.keep(
    startProcess(
      clientPath('etcd'),
      [
        ...['--name', 'e', '--data-dir', join(folder, 'etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
        ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', cluster],
        ...['--initial-advertise-peer-urls', cluster, '--initial-cluster', `e=${cluster}`],
      ],
      { checkReady: async () => void (await fetch(`${client}/health`)) },
    ),
  );
  const startServer = () =>
    startProcess(
      clientPath('kube-apiserver'),
      [
        ...[`--etcd-servers=${client}`, '--bind-address=127.0.0.1', `--secure-port=${port}`, '--anonymous-auth=false'],
        ...['--advertise-address=127.0.0.1', '--endpoint-reconciler-type=none', '--external-hostname=localhost'],
        ...[`--tls-cert-file=${pem('server.pem')}`, `--tls-private-key-file=${pem('server.key')}`],
        ...[`--token-auth-file=${join(folder, 'tokens.csv')}`, '--authorization-mode=RBAC', '--allow-privileged'],
        ...['--service-account-issuer=https://localhost', '--service-cluster-ip-range=10.96.0.0/16'],
        ...[`--service-account-key-file=${join(folder, 'accounts.pub')}`, '--profiling=false'],
        ...[`--service-account-signing-key-file=${join(folder, 'accounts.key')}`],
        '--kubelet-preferred-address-types=Hostname,InternalIP',
      ],
      { checkReady: () => checkReady(admin) },
    );
  let running: Killable = await startServer();
  await environment.keep(Promise.resolve({ stop: () => running.kill() }));

  async function withoutServer(work: () => Promise<void>): Promise<void> {
    await running.kill();
    try {
      await work();
    } finally {
      running = await startServer();
    }
  }

  const common = [
    `--kubeconfig=${join(folder, 'nodes.kubeconfig')}`,
    '--bind-address=127.0.0.1',
    '--leader-elect=false',
  ];
  await environment.keep(
    startProcess(
      clientPath('kube-controller-manager'),
      [
        ...[...common, `--secure-port=${await findFreePort()}`, `--cert-dir=${join(folder, 'manager')}`],
        ...[`--service-account-private-key-file=${join(folder, 'accounts.key')}`, `--root-ca-file=${pem('ca.pem')}`],
        ...[
          `--flex-volume-plugin-dir=${join(folder, 'flex')}`,
          '--node-monitor-period=1s',
          '--node-monitor-grace-period=12s',
        ],
      ],
      {
        checkReady: () =>
          admin.makeApiClient(CoreV1Api).readNamespacedServiceAccount({ name: 'default', namespace: 'default' }),
      },
    ),
  );
  await environment.keep(
    startProcess(
      clientPath('kube-scheduler'),
      [...common, `--secure-port=${await findFreePort()}`, `--cert-dir=${join(folder, 'scheduler')}`],
      { checkReady: async () => undefined },
    ),
  );
  return { admin, server, withoutServer };
}

/** Its own roles are there by then, too. */
async function checkReady(config: KubeConfig): Promise<void> {
  if (!(await new Health(config).readyz({}))) throw new Error('the API server is not ready');
}

function configFile(server: string, token: string): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'c', cluster: { server, 'certificate-authority': resolve('fixtures/certificates/ca.pem') } }],
    users: [{ name: 'u', user: { token } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
    'current-context': 'x',
  });
}

interface NodeOptions {
  readonly name: string;
  readonly service: string;
  readonly pause: string;
}

async function startNode(
  environment: Environment,
  folder: string,
  { name, service, pause }: NodeOptions,
): Promise<Node> {
  const port = await findFreePort();
  const own = join(folder, `node-${port}`);
  await mkdir(own);
  const script = resolve('test/clients/kubernetes/node.sh');
  const args = ['--pid', '--mount', '--fork', '--kill-child', '--mount-proc', script];
  const running = await startProcess('unshare', [...args, own, name, String(port), `service=${service}`, pause], {
    env: { PATH: searchPath() },
    checkReady: async () => undefined,
  });
  const stop = async () => {
    await running.kill();
    // The namespace takes its processes along; then their cgroups can go.
    await waitUntil(() => removeGroups(`veneer-node-${port}`));
    await rmdir('/var/lib/kubelet').catch(() => undefined);
  };
  await environment.keep(Promise.resolve({ stop }));
  return { kill: running.kill };
}

async function removeGroups(name: string): Promise<void> {
  const groups = globSync([`/sys/fs/cgroup/${name}`, `/sys/fs/cgroup/*/${name}`]);
  for (const group of groups) await run('find', [group, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', '+']);
}

/** Of a backend in it that builds for the platforms of the contract, without a Veneer that its pods would have to reach. */
export function clusterOptions({ kubeconfig, namespace, image }: Cluster) {
  return {
    ...{ name: 'kubernetes', kubeconfig, namespace, image },
    platforms: ['linux/amd64', 'linux/arm64', 'linux/arm/v7'].map(parsePlatform),
    nodeSelector: {
      'linux/amd64': { service: 'wave-build' },
      'linux/arm64': { service: 'wave-build-arm64' },
      default: { service: 'wave-build' },
    },
    security: 'privileged' as const,
    isOneJob: false,
    scheduleTimeoutMs: 60_000,
    timeoutMs: 120_000,
    labels: {},
    annotations: {},
    tolerations: [],
    resources: { requests: { cpu: '100m' }, limits: {} },
    storage: { kind: 'emptyDir' as const },
  };
}
