// The objects that a build is in a cluster, whole; and that nothing secret is outside of the Secret.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createJob, createSecret, type JobOptions, jobName } from '../../../../src/builds/backends/kubernetes/job.ts';
import { BuildFailure } from '../../../../src/builds/execution.ts';
import { parsePlatform } from '../../../../src/oci/platform.ts';
import { createOrder, type OrderOptions } from '../../../support/build-order.ts';

const OPTIONS: JobOptions = {
  name: 'veneer-bd-0123456789abcdef-1-abcdef12',
  secret: 'veneer-bd-0123456789abcdef-1-abcdef12-01234567',
  namespace: 'builds',
  instance: '0123456789ab',
  image: 'moby/buildkit:1-rootless',
  security: 'rootless',
  selector: { service: 'wave-build-arm64' },
  labels: { team: 'tools' },
  annotations: { note: 'x' },
  tolerations: [{ key: 'builds', operator: 'Exists', effect: undefined }],
  priorityClass: 'low',
  serviceAccount: 'nobody',
  resources: { requests: { cpu: '250m' }, limits: { memory: '2Gi' } },
  storage: { kind: 'emptyDir', size: '10Gi' },
  timeoutMs: 900_000,
  callbackUrl: new URL('http://veneer:8080'),
};

async function orderOf(options: Partial<OrderOptions> = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'veneer-job-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const plain = { containerFile: 'FROM scratch\n', image: '127.0.0.1:8080/local/app:1', platforms: ['linux/arm64'] };
  return createOrder(folder, { ...plain, ...options });
}

test('a Job is suspended, of this build, and retried by nobody but for a lost node', async () => {
  const job = createJob(await orderOf(), OPTIONS);
  const labels = {
    team: 'tools',
    'app.kubernetes.io/managed-by': 'veneer',
    'app.kubernetes.io/component': 'build',
    'veneer/instance': '0123456789ab',
    'veneer/build': 'bd-0123456789abcdef_1',
  };
  const annotations = { note: 'x', 'veneer/platforms': 'linux/arm64' };
  expect(job).toMatchObject({
    metadata: { name: OPTIONS.name, namespace: 'builds', labels, annotations },
    spec: {
      suspend: true,
      backoffLimit: 0,
      activeDeadlineSeconds: 900,
      ttlSecondsAfterFinished: 3600,
      podFailurePolicy: {
        rules: [
          { action: 'Ignore', onPodConditions: [{ type: 'DisruptionTarget', status: 'True' }] },
          { action: 'FailJob', onExitCodes: { containerName: 'build', operator: 'NotIn', values: [0] } },
        ],
      },
      template: { metadata: { labels, annotations } },
    },
  });
});

test('its pod has no root, no token of the cluster and no variables of services', async () => {
  const pod = createJob(await orderOf(), OPTIONS).spec?.template.spec;
  expect(pod).toMatchObject({
    restartPolicy: 'Never',
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: 1,
    nodeSelector: { service: 'wave-build-arm64' },
    tolerations: [{ key: 'builds', operator: 'Exists' }],
    priorityClassName: 'low',
    serviceAccountName: 'nobody',
    securityContext: { fsGroup: 1000 },
    volumes: [
      { name: 'config', secret: { secretName: OPTIONS.secret, defaultMode: 0o440 } },
      { name: 'work', emptyDir: { sizeLimit: '10Gi' } },
      { name: 'state', emptyDir: { sizeLimit: '10Gi' } },
    ],
    containers: [
      {
        image: 'moby/buildkit:1-rootless',
        securityContext: {
          runAsUser: 1000,
          runAsGroup: 1000,
          seccompProfile: { type: 'Unconfined' },
          appArmorProfile: { type: 'Unconfined' },
        },
        resources: { requests: { cpu: '250m' }, limits: { memory: '2Gi' } },
        volumeMounts: [
          { name: 'config', mountPath: '/veneer/config', readOnly: true },
          { name: 'work', mountPath: '/veneer/work' },
          { name: 'state', mountPath: '/home/user/.local/share/buildkit' },
        ],
        env: [
          { name: 'DOCKER_CONFIG', value: '/veneer/config' },
          {
            name: 'BUILDKITD_FLAGS',
            value: '--config /veneer/config/buildkitd.toml --oci-worker-no-process-sandbox',
          },
          { name: 'BUILDCTL_CONNECT_RETRIES_MAX', value: '60' },
          { name: 'STATE', value: '/home/user/.local/share/buildkit' },
          { name: 'CALLBACK', value: 'http://veneer:8080' },
        ],
      },
    ],
  });
});

test.each([
  ['userns', false, { privileged: true }],
  ['privileged', undefined, { privileged: true }],
] as const)('with %s it is root where it is', async (security, hostUsers, context) => {
  const pod = createJob(await orderOf(), { ...OPTIONS, security }).spec?.template.spec;
  expect([pod?.hostUsers, pod?.containers[0]?.securityContext]).toEqual([hostUsers, context]);
  expect(pod?.containers[0]?.volumeMounts?.at(-1)?.mountPath).toBe('/var/lib/buildkit');
});

test('what is kept in a volume that is there has a folder of its own in it, and is emptied', async () => {
  const storage = { kind: 'claim', claim: 'work', subPath: 'builds' } as const;
  const pod = createJob(await orderOf(), { ...OPTIONS, storage }).spec?.template.spec;
  expect(pod?.volumes?.[1]).toEqual({ name: 'storage', persistentVolumeClaim: { claimName: 'work' } });
  expect(pod?.containers[0]?.volumeMounts?.slice(1).map(({ subPath }) => subPath)).toEqual([
    `builds/${OPTIONS.name}/work`,
    `builds/${OPTIONS.name}/state`,
  ]);
  expect(pod?.containers[0]?.command?.[2]).toMatch(/^trap 'rm -rf/);
});

test('no argument is taken for a variable of the pod', async () => {
  const args = { A: '$(STATE) $HOME $$ `id`' };
  const pod = createJob(await orderOf({ spec: { args } }), OPTIONS).spec?.template.spec;
  expect(pod?.containers[0]?.args).toContain('build-arg:A=$$(STATE) $$HOME $$$$ `id`');
  expect(pod?.containers[0]?.command?.[2]).toContain('"$$CALLBACK/health/live"');
});

test('the same part of the same build has the same name, and each part its own', async () => {
  const order = await orderOf();
  const name = jobName(order);
  expect(name).toMatch(/^veneer-bd-0123456789abcdef-1-[0-9a-f]{8}$/);
  expect(jobName({ ...order })).toBe(name);
  expect(jobName({ ...order, platforms: [parsePlatform('linux/amd64')] })).not.toBe(name);
  expect(jobName({ ...order, target: { ...order.target, image: 'local/app:2' } })).not.toBe(name);
});

test('what is secret is in the Secret, which the Job owns, and nowhere in the Job', async () => {
  const order = await orderOf({
    secrets: { one: 'canary-secret' },
    credentials: { 'registry.example': { username: 'canary-user', password: 'canary-password' } },
  });
  const job = createJob(order, OPTIONS);
  expect(JSON.stringify(job)).not.toMatch(/canary/);
  const made = { ...job, metadata: { ...job.metadata, uid: '1-2-3' } };
  const secret = createSecret(order, made, {
    name: OPTIONS.secret,
    context: { url: 'http://veneer:8080/v1/builds/contexts/x?signature=canary' },
  });
  expect(secret).toMatchObject({
    immutable: true,
    metadata: {
      name: OPTIONS.secret,
      namespace: 'builds',
      ownerReferences: [{ apiVersion: 'batch/v1', kind: 'Job', name: OPTIONS.name, uid: '1-2-3' }],
    },
  });
  const data = Object.fromEntries(
    Object.entries(secret.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64').toString()]),
  );
  expect(data).toMatchObject({
    Containerfile: 'FROM scratch\n',
    'secret-0': 'canary-secret',
    'buildkitd.toml': '[registry."127.0.0.1:8080"]\nhttp = true\n',
    'context-url': expect.stringContaining('signature=canary'),
  });
  expect(data['config.json']).toContain(Buffer.from('canary-user:canary-password').toString('base64'));
  expect(job.spec?.template.spec?.containers[0]?.args).toContain('id=one,src=/veneer/config/secret-0');
});

test('what no Secret can hold is a failure that says so', async () => {
  const order = await orderOf({
    containerFile: `FROM scratch\n#${'x'.repeat(700_000)}\n`,
    secrets: { a: 'y'.repeat(400_000) },
  });
  const create = () =>
    createSecret(order, createJob(order, OPTIONS), { name: 'x', context: { bytes: new Uint8Array() } });
  expect(create).toThrow(BuildFailure);
  expect(create).toThrow(/a Secret of Kubernetes holds 1048576/);
});
