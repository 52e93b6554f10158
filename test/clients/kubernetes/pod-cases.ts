// The pods of builds: what they may, where they go and work, and how they end before their time.
import { chmod, mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CoreV1Api, KubernetesObjectApi, loadAllYaml } from '@kubernetes/client-node';
import { describe, expect, test } from 'vitest';
import type { KubernetesOptions } from '../../../src/builds/backends/kubernetes/backend.ts';
import type { Bench } from '../../support/build-bench.ts';
import { type Place, useBackend } from './place.ts';

export function podCases(getPlace: () => Place): void {
  describe('a pod', { timeout: 240_000 }, () => {
    const from = (...steps: readonly string[]) => [`FROM ${getPlace().environment.source}`, ...steps, ''].join('\n');

    function use<T>(options: Partial<KubernetesOptions>, work: (bench: Bench) => Promise<T>): Promise<T> {
      return useBackend(getPlace(), options, work);
    }

    function fail(options: Partial<KubernetesOptions>, order: { run: string; spec?: object }) {
      return use(options, bench => bench.fail({ containerFile: from(`RUN ${order.run}`), spec: { ...order.spec } }));
    }

    describe('ends before its time', () => {
      test('that takes longer than its Job may is a time-out', async () => {
        const { failure } = await fail({}, { run: 'sleep 600', spec: { timeoutMs: 12_000 } });
        expect(failure).toMatchObject({
          kind: 'timeout',
          reason: expect.stringContaining('did not finish within 12 s'),
        });
      });

      test('that takes more memory than it may says what the limit is', async () => {
        const resources = { requests: {}, limits: { memory: '300Mi' } };
        const run = 'head -c 900000000 /dev/zero | tail -c 800000000 > /dev/null';
        const { failure } = await fail({ resources }, { run });
        expect(failure).toMatchObject({ kind: 'build', reason: 'out of memory: the limit is 300Mi' });
      });

      test('whose image is not there says which, while it waits and in the end', async () => {
        const image = `${getPlace().environment.registry}/no/such:1`;
        const { failure, events } = await fail({ image, scheduleTimeoutMs: 6000 }, { run: 'true' });
        const words = `the image ${image} cannot be pulled`;
        expect(failure).toMatchObject({ kind: 'timeout', reason: expect.stringContaining(words) });
        expect(events.map(({ text }) => text)).toContainEqual(expect.stringContaining(words));
      });

      test('that does not reach Veneer says at which address', async () => {
        const { failure } = await fail({ callbackUrl: new URL('http://127.0.0.1:9') }, { run: 'true' });
        expect(failure).toMatchObject({
          kind: 'infrastructure',
          reason: expect.stringContaining('cannot reach Veneer at http://127.0.0.1:9'),
        });
      });
    });

    describe('may do what its mode says', () => {
      test('without root a RUN works in namespaces of its own, on every platform', async () => {
        const { rootlessImage: image } = getPlace().cluster;
        const { pushed } = await use({ security: 'rootless', image }, bench =>
          bench.build({
            containerFile: from('RUN uname -m > /machine; cat /proc/self/uid_map > /users'),
            platforms: ['linux/amd64', 'linux/arm64'],
          }),
        );
        const read = (file: string) => Promise.all(pushed.images.map(image => image.readFile(file)));
        expect((await read('/machine')).map(machine => machine?.trim())).toEqual(['x86_64', 'aarch64']);
        for (const users of await read('/users'))
          expect(users?.trim().split(/\s+/).slice(0, 3)).toEqual(['0', '1000', '1']);
      });

      test('without root on what does not let it says so at once, and what would', async () => {
        // An image without such a user.
        const { image } = getPlace().cluster;
        const { failure } = await fail({ security: 'rootless', image }, { run: 'true' });
        expect(failure).toMatchObject({
          kind: 'infrastructure',
          reason: expect.stringMatching(
            /^the node .* does not allow a rootless pod to create namespaces: .*rootlesskit.*; .*or set security: userns or privileged$/,
          ),
        });
      });

      test('with users of its own on a node that gives none says so at once, and what to set', async () => {
        const { failure } = await fail({ security: 'userns' }, { run: 'true' });
        expect(failure).toMatchObject({
          kind: 'infrastructure',
          reason: expect.stringMatching(
            /^the node 127\.0\.0\.1 does not support user namespaces for pods: .*; set security: rootless, or privileged$/,
          ),
        });
      });

      test('in a namespace that forbids its mode says so at once, and what would help', async () => {
        const { admin, adminKubeconfig: kubeconfig, rootlessImage: image } = getPlace().cluster;
        const namespace = 'baseline';
        await KubernetesObjectApi.makeApiClient(admin).create({
          apiVersion: 'v1',
          kind: 'Namespace',
          metadata: { name: namespace, labels: { 'pod-security.kubernetes.io/enforce': 'baseline' } },
        });
        const options = { kubeconfig, namespace, image, security: 'rootless' } as const;
        const { failure } = await fail(options, { run: 'true' });
        expect(failure).toMatchObject({
          kind: 'infrastructure',
          reason: expect.stringMatching(
            /^the namespace baseline does not admit pods with security: rootless: .*violates PodSecurity.*pod-security\.kubernetes\.io\/enforce=privileged$/,
          ),
        });
      });
    });

    test('has the labels, the service account, the priority and the resources that are configured', async () => {
      const { cluster, gate } = getPlace();
      const { admin, namespace } = cluster;
      const objects = KubernetesObjectApi.makeApiClient(admin);
      for (const object of loadAllYaml(IDENTITY.replaceAll('NAMESPACE', namespace))) await objects.create(object);
      const options = {
        labels: { team: 'tools' },
        annotations: { 'example.com/note': 'of a test' },
        serviceAccount: 'nobody',
        priorityClass: 'builds',
        resources: { requests: { cpu: '50m' }, limits: { memory: '2Gi' } },
      };
      await use(options, async bench => {
        const building = bench.build({ containerFile: from(`RUN ${gate.command('configured')}`) });
        await Promise.race([gate.arrive('configured'), building]);
        const labelSelector = 'team=tools';
        const { items } = await admin.makeApiClient(CoreV1Api).listNamespacedPod({ namespace, labelSelector });
        gate.open('configured');
        await building;
        expect(items).toMatchObject([
          {
            metadata: { annotations: options.annotations },
            spec: {
              serviceAccountName: 'nobody',
              priority: -10,
              automountServiceAccountToken: false,
              containers: [{ resources: { requests: { cpu: '50m', memory: '2Gi' }, limits: { memory: '2Gi' } } }],
            },
          },
        ]);
      });
    });

    describe('goes where it is sent', () => {
      test('by an affinity to nodes', async () => {
        const matchExpressions = [{ key: 'service', operator: 'In', values: ['wave-build-arm64'] }];
        const requiredDuringSchedulingIgnoredDuringExecution = { nodeSelectorTerms: [{ matchExpressions }] };
        const affinity = { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution } };
        const { events } = await use({ nodeSelector: undefined, affinity }, bench =>
          bench.build({ containerFile: from('RUN true') }),
        );
        expect(events.map(({ text }) => text)).toContainEqual(
          expect.stringMatching(/works in the pod .* on the node localhost$/),
        );
      });
    });

    describe('works where it is told to', () => {
      test('in a folder of its own of a claim, below the path that was named, and leaves it empty', async () => {
        const { environment, cluster } = getPlace();
        const volume = join(environment.folder, 'volume');
        await mkdir(volume);
        const objects = KubernetesObjectApi.makeApiClient(cluster.admin);
        for (const object of loadAllYaml(claimOf(volume, cluster.namespace))) await objects.create(object);
        const storage = { kind: 'claim', claim: 'work', subPath: 'deep/builds' } as const;
        const { events } = await use({ storage }, async bench => {
          const order = { containerFile: from('COPY a /a', 'RUN cat /a'), context: { a: 'A' } };
          return (await Promise.all([bench.build(order), bench.build(order)]))[0];
        });
        expect(events).toContainEqual(expect.objectContaining({ kind: 'output', text: 'A' }));
        expect(await findFiles(join(volume, 'deep/builds'))).toEqual([
          expect.stringMatching(/^veneer-[^/]+$/),
          expect.stringMatching(/^veneer-[^/]+\/state$/),
          expect.stringMatching(/^veneer-[^/]+\/work$/),
          expect.stringMatching(/^veneer-[^/]+$/),
          expect.stringMatching(/^veneer-[^/]+\/state$/),
          expect.stringMatching(/^veneer-[^/]+\/work$/),
        ]);
      });

      test('in a folder of its node, which it leaves empty', async () => {
        const hostPath = join(getPlace().environment.folder, 'of-node');
        const storage = { kind: 'hostPath', hostPath } as const;
        await use({ storage }, bench => bench.build({ containerFile: from('RUN true') }));
        expect((await findFiles(hostPath)).length).toBe(3);
      });

      test('without root in a folder that it may write to', async () => {
        const { environment, cluster } = getPlace();
        const hostPath = join(environment.folder, 'of-everyone');
        await mkdir(hostPath);
        await chmod(hostPath, 0o777);
        const options = { security: 'rootless', image: cluster.rootlessImage } as const;
        await use({ ...options, storage: { kind: 'hostPath', hostPath } }, bench =>
          bench.build({ containerFile: from('RUN true') }),
        );
      });

      test('without root in a folder that is not its own says so at once', async () => {
        const { environment, cluster } = getPlace();
        const storage = { kind: 'hostPath', hostPath: join(environment.folder, 'of-root') } as const;
        const options = { security: 'rootless', image: cluster.rootlessImage, storage } as const;
        const { failure } = await fail(options, { run: 'true' });
        expect(failure).toMatchObject({
          kind: 'infrastructure',
          reason: expect.stringMatching(
            /^the pod may not write to its storage as user 1000, without root: .*set security/,
          ),
        });
      });
    });
  });
}

const IDENTITY = `
apiVersion: v1
kind: ServiceAccount
metadata: { name: nobody, namespace: NAMESPACE }
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: { name: builds }
value: -10
`;

function claimOf(path: string, namespace: string): string {
  return `
apiVersion: v1
kind: PersistentVolume
metadata: { name: work }
spec:
  capacity: { storage: 1Gi }
  accessModes: [ReadWriteMany]
  storageClassName: ""
  hostPath: { path: ${path} }
  claimRef: { namespace: ${namespace}, name: work }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: work, namespace: ${namespace} }
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ""
  resources: { requests: { storage: 1Gi } }
`;
}

async function findFiles(folder: string): Promise<readonly string[]> {
  return (await readdir(folder, { recursive: true })).toSorted();
}
