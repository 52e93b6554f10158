// The Helm chart and the kustomize base of deploy/, rendered by the real commands: what a cluster gets of them. Whether a cluster takes it
// is in build-kubernetes.test.ts.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadAllYaml } from '@kubernetes/client-node';
import { describe, expect, onTestFinished, test } from 'vitest';
import { parse } from 'yaml';
import { configSchema } from '../../src/config/schema.ts';
import { clientPath, findMissingTools } from './support/clients.ts';
import { lintChart, renderChart } from './support/helm.ts';
import { run } from './support/process.ts';

const missing = findMissingTools(['helm', 'kustomize']);

/** What several pods need of the configuration. */
const SHARED = {
  state: { postgres: { url: { env: 'DATABASE' }, replicas: true } },
  content: { s3: { bucket: 'veneer', region: 'eu-west-1' } },
};

const FLEET = {
  replicas: 3,
  config: SHARED,
  persistence: { size: '20Gi', storageClass: 'fast' },
  networkPolicy: { enabled: true, egress: [{ ports: [{ port: 5432 }] }] },
};

const EVERYTHING = {
  image: { repository: 'registry.example/veneer', digest: `sha256:${'a'.repeat(64)}`, pullSecrets: [{ name: 'pull' }] },
  config: {
    publicUrl: 'https://veneer.example',
    upstreams: { 'docker.io': { credentials: { username: 'me', password: { env: 'HUB_TOKEN' } } } },
    rules: [{ name: 'zone', match: { image: 'docker.io/**' }, env: { TZ: 'UTC' } }],
    builds: { backends: [{ type: 'kubernetes', callbackUrl: 'http://veneer.veneer.svc:8080' }] },
  },
  env: [{ name: 'HUB_TOKEN', valueFrom: { secretKeyRef: { name: 'hub', key: 'token' } } }],
  envFrom: [{ secretRef: { name: 'more' } }],
  extraVolumes: [{ name: 'users', secret: { secretName: 'users' } }],
  extraVolumeMounts: [{ name: 'users', mountPath: '/etc/veneer-users', readOnly: true }],
  persistence: { size: '200Gi', storageClass: 'fast', annotations: { team: 'platform' } },
  service: { type: 'NodePort', nodePort: 30_500 },
  ingress: { enabled: true, className: 'nginx', host: 'veneer.example', tlsSecret: 'veneer-tls' },
  serviceAccount: { annotations: { 'example.com/role': 'veneer' } },
  builds: { enabled: true },
  networkPolicy: { enabled: true, from: [{ namespaceSelector: {} }] },
  serviceMonitor: { enabled: true, labels: { release: 'prometheus' } },
  podAnnotations: { a: 'b' },
  podLabels: { c: 'd' },
  priorityClassName: 'high',
  nodeSelector: { disk: 'ssd' },
  tolerations: [{ key: 'dedicated', operator: 'Exists' }],
  affinity: { nodeAffinity: {} },
};

describe.skipIf(missing)(`the chart${missing ? ` (${missing})` : ''}`, () => {
  test('has nothing that helm lint finds', async () => {
    await lintChart({});
    await lintChart(EVERYTHING);
    await lintChart(FLEET);
    await lintChart(await readValues());
  });

  test('by default is one pod without root and without a right in the cluster, and a claim that stays', async () => {
    const objects = await renderChart({});
    expect(objects.map(({ kind }) => kind).sort()).toEqual([
      ...['ConfigMap', 'Deployment', 'PersistentVolumeClaim', 'Service', 'ServiceAccount'],
    ]);
    expect(objects.find(({ kind }) => kind === 'Deployment')).toMatchObject({
      spec: {
        replicas: 1,
        strategy: { type: 'Recreate' },
        template: {
          spec: {
            automountServiceAccountToken: false,
            securityContext: { runAsNonRoot: true, runAsUser: 10_001, fsGroup: 10_001 },
            containers: [{ image: 'veneer:0.1.0', securityContext: { readOnlyRootFilesystem: true } }],
          },
        },
      },
    });
    expect(objects.find(({ kind }) => kind === 'PersistentVolumeClaim')).toMatchObject({
      metadata: { annotations: { 'helm.sh/resource-policy': 'keep' } },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '50Gi' } } },
    });
  });

  test('gives a pod the configuration as it was written, and all that is asked for', async () => {
    const objects = await renderChart(EVERYTHING);
    expect(objects.map(({ kind }) => kind).sort()).toEqual([
      ...['ConfigMap', 'Deployment', 'Ingress', 'NetworkPolicy', 'PersistentVolumeClaim', 'Role', 'RoleBinding'],
      ...['Service', 'ServiceAccount', 'ServiceMonitor'],
    ]);
    const config = readConfig(objects);
    expect(config).toEqual(EVERYTHING.config);
    expect(configSchema({ HUB_TOKEN: 'x' }).parse(config)).toMatchObject({
      builds: { backends: [{ type: 'kubernetes' }] },
    });
    expect(objects.find(({ kind }) => kind === 'Deployment')).toMatchObject({
      spec: {
        template: {
          metadata: { annotations: { a: 'b' }, labels: { c: 'd' } },
          spec: {
            automountServiceAccountToken: true,
            serviceAccountName: 'team-veneer',
            imagePullSecrets: [{ name: 'pull' }],
            priorityClassName: 'high',
            nodeSelector: { disk: 'ssd' },
            tolerations: [{ key: 'dedicated', operator: 'Exists' }],
            affinity: { nodeAffinity: {} },
            containers: [
              {
                image: `registry.example/veneer@sha256:${'a'.repeat(64)}`,
                env: expect.arrayContaining(EVERYTHING.env),
                envFrom: EVERYTHING.envFrom,
                volumeMounts: expect.arrayContaining(EVERYTHING.extraVolumeMounts),
              },
            ],
            volumes: expect.arrayContaining(EVERYTHING.extraVolumes),
          },
        },
      },
    });
  });

  test('has the rights of deploy/kubernetes.yaml for builds, and no more', async () => {
    const [role] = (await renderChart({ builds: { enabled: true } })).filter(({ kind }) => kind === 'Role');
    const [known] = loadAllYaml(await readFile('deploy/kubernetes.yaml', 'utf8')).filter(({ kind }) => kind === 'Role');
    expect(role).toMatchObject({ rules: (known as unknown as { rules: object }).rules });
  });

  test('starts a pod again for a change of the configuration, but not for one of the rules', async () => {
    const sumOf = async (config: object) =>
      JSON.stringify((await renderChart({ config })).find(({ kind }) => kind === 'Deployment'));
    const rules = [{ name: 'zone', match: { image: '**' }, env: { TZ: 'UTC' } }];
    expect(await sumOf({ rules })).toBe(await sumOf({}));
    expect(await sumOf({ offline: true })).not.toBe(await sumOf({}));
  });

  test('asks a pod with a certificate of its own by TLS', async () => {
    const config = { tls: { cert: '/etc/veneer-tls/tls.crt', key: '/etc/veneer-tls/tls.key' } };
    const text = JSON.stringify(await renderChart({ config, serviceMonitor: { enabled: true } }));
    expect(text.match(/"scheme":"HTTPS"/g)).toHaveLength(3);
    expect(text).toContain('"scheme":"https"');
  });

  test('with several replicas is pods that each keep their own cache, spread over nodes and drained one at a time', async () => {
    const objects = await renderChart(FLEET);
    expect(objects.map(({ kind }) => kind).sort()).toEqual([
      ...['ConfigMap', 'NetworkPolicy', 'PodDisruptionBudget', 'Service', 'ServiceAccount', 'StatefulSet'],
    ]);
    const [set] = objects.filter(({ kind }) => kind === 'StatefulSet');
    const selector = {
      'app.kubernetes.io/name': 'veneer',
      'app.kubernetes.io/instance': 'team',
      'app.kubernetes.io/component': 'proxy',
    };
    expect(set).toMatchObject({
      spec: {
        replicas: 3,
        serviceName: 'team-veneer',
        podManagementPolicy: 'Parallel',
        selector: { matchLabels: selector },
        template: {
          metadata: { labels: selector },
          spec: {
            automountServiceAccountToken: false,
            securityContext: { runAsNonRoot: true, runAsUser: 10_001, fsGroup: 10_001 },
            containers: [{ securityContext: { readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } } }],
            topologySpreadConstraints: [
              { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: selector } },
              { topologyKey: 'topology.kubernetes.io/zone' },
            ],
          },
        },
        volumeClaimTemplates: [
          {
            metadata: { name: 'data' },
            spec: { storageClassName: 'fast', resources: { requests: { storage: '20Gi' } } },
          },
        ],
      },
    });
    expect(objects.find(({ kind }) => kind === 'PodDisruptionBudget')).toMatchObject({
      spec: { maxUnavailable: 1, selector: { matchLabels: selector } },
    });
    expect(objects.find(({ kind }) => kind === 'NetworkPolicy')).toMatchObject({
      spec: {
        policyTypes: ['Ingress', 'Egress'],
        egress: [{ ports: [{ port: 53 }, { port: 53 }] }, { ports: [{ port: 5432 }] }],
      },
    });
  });

  test('with several replicas leaves no pod out for what all of them share', async () => {
    const readinessOf = async (values: object) =>
      /"readinessProbe":.*?"path":"([^"]+)"/.exec(JSON.stringify(await renderChart(values)))?.[1];
    expect(await readinessOf({})).toBe('/health/ready');
    expect(await readinessOf(FLEET)).toBe('/health/live');
  });

  test('scales by the processor time of a pod, as an amount, or by what it is told', async () => {
    const scalerOf = async (autoscaling: object) => {
      const objects = await renderChart({ config: SHARED, autoscaling: { enabled: true, ...autoscaling } });
      // The number of pods is the scaler's alone.
      expect(objects.find(({ kind }) => kind === 'StatefulSet')).not.toHaveProperty('spec.replicas');
      return objects.find(({ kind }) => kind === 'HorizontalPodAutoscaler');
    };
    expect(await scalerOf({})).toMatchObject({
      spec: {
        scaleTargetRef: { kind: 'StatefulSet', name: 'team-veneer' },
        minReplicas: 2,
        maxReplicas: 6,
        metrics: [{ resource: { name: 'cpu', target: { type: 'AverageValue', averageValue: '700m' } } }],
      },
    });
    const metric = {
      type: 'Pods',
      pods: { metric: { name: 'sent' }, target: { type: 'AverageValue', averageValue: '500M' } },
    };
    expect(await scalerOf({ metrics: [metric] })).toMatchObject({ spec: { metrics: [metric] } });
  });

  test('takes the example of docs/kubernetes.md', async () => {
    const [example = ''] = /(?<=```yaml\n)image:.*?(?=```)/s.exec(await readFile('docs/kubernetes.md', 'utf8')) ?? [];
    const config = readConfig(await renderChart(parse(example)));
    expect(configSchema({ HUB_TOKEN: 'x' }).parse(config)).toMatchObject({ rules: [{ name: 'corporate-proxy' }] });
  });

  test.each([
    ['an unknown key', { replica: 3 }, /additional properties .replica. not allowed/],
    ['a value of another type', { builds: { enabled: 'maybe' } }, /builds\/enabled|builds\.enabled/],
    ['an invalid size', { persistence: { size: 'large' } }, /persistence\/size|persistence\.size/],
    [
      'several replicas with records of each',
      { replicas: 2 },
      /replicas: expected config\.state\.postgres with replicas: true/,
    ],
    [
      'several replicas with content of each',
      { replicas: 2, config: { state: SHARED.state } },
      /replicas: expected config\.content\.s3/,
    ],
    [
      'a claim for several replicas',
      { ...FLEET, persistence: { existingClaim: 'one' } },
      /persistence\.existingClaim: expected nothing here with several pods/,
    ],
    ['no replica', { replicas: 0 }, /replicas/],
    ['a part of a processor that is none', { autoscaling: { averageCpu: 'half' } }, /averageCpu/],
    ['where it listens', { config: { listen: '0.0.0.0:1' } }, /config\.listen: expected nothing here/],
    [
      'an ingress without a host',
      { ingress: { enabled: true } },
      /ingress\.host: expected the name by which clients pull/,
    ],
  ])('refuses %s, and says which', async (_, values, fault) => {
    await expect(renderChart(values)).rejects.toThrow(fault);
  });
});

describe.skipIf(missing)(`the base of kustomize${missing ? ` (${missing})` : ''}`, () => {
  test('is deploy/kubernetes.yaml, with an image of its own where docs/kubernetes.md says so', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'veneer-kustomize-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    await cp('deploy', join(folder, 'veneer', 'deploy'), { recursive: true });
    const [example = ''] =
      /(?<=```yaml\n)# kustomization\.yaml.*?(?=```)/s.exec(await readFile('docs/kubernetes.md', 'utf8')) ?? [];
    await writeFile(join(folder, 'kustomization.yaml'), example);
    const rendered = loadAllYaml(await run(clientPath('kustomize'), ['build', folder]));
    const plain = loadAllYaml(await readFile('deploy/kubernetes.yaml', 'utf8'));
    expect(rendered.map(({ kind }) => kind).sort()).toEqual(plain.map(({ kind }) => kind).sort());
    expect(rendered.find(({ kind }) => kind === 'Deployment')).toMatchObject({
      spec: { template: { spec: { containers: [{ image: 'registry.example/veneer:0.1.0' }] } } },
    });
  });
});

describe.skipIf(missing)(`deploy/replicas${missing ? ` (${missing})` : ''}`, () => {
  test('is what the chart makes of its values, for those who have no helm', async () => {
    const plain = loadAllYaml(await readFile('deploy/replicas/veneer.yaml', 'utf8'));
    expect(plain).toEqual(await renderChart(await readValues(), 'veneer'));
    const rendered = loadAllYaml(await run(clientPath('kustomize'), ['build', 'deploy/replicas']));
    const nameOf = ({ kind, metadata }: (typeof plain)[number]) => `${kind} ${metadata?.name}`;
    expect(rendered.map(nameOf).sort()).toEqual(plain.map(nameOf).sort());
    expect(plain.map(({ kind }) => kind)).toEqual(
      expect.arrayContaining([
        'HorizontalPodAutoscaler',
        'PodDisruptionBudget',
        'NetworkPolicy',
        'Role',
        'StatefulSet',
      ]),
    );
    const environment = { DATABASE: 'postgres://veneer@db/veneer', CREDENTIAL_KEY: 'k'.repeat(32) };
    expect(configSchema(environment).parse(readConfig(plain))).toMatchObject({
      state: { postgres: { isShared: true } },
    });
  });
});

async function readValues(): Promise<object> {
  return parse(await readFile('deploy/replicas/values.yaml', 'utf8'));
}

function readConfig(objects: Awaited<ReturnType<typeof renderChart>>): unknown {
  const map = objects.find(({ kind }) => kind === 'ConfigMap');
  return parse((map as { data?: Record<string, string> } | undefined)?.data?.['veneer.yaml'] ?? '');
}
