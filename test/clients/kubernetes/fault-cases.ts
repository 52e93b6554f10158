// What goes wrong in a cluster under the builds of it: pods that have to go, nodes that are lost, an API server that is started again.
import { CoreV1Api, PatchStrategy, setHeaderOptions, type V1Node, type V1Pod } from '@kubernetes/client-node';
import { beforeAll, describe, expect, test } from 'vitest';
import type { KubernetesOptions } from '../../../src/builds/backends/kubernetes/backend.ts';
import { waitUntil } from '../support/process.ts';
import type { Node } from './cluster.ts';
import { type Place, useBackend } from './place.ts';

/** Of the node that is lost in the end. */
const SPARE = { name: '127.0.0.2', service: 'spare' } as const;
const TAINT = { key: 'builds', value: 'only', effect: 'NoSchedule' } as const;
const TOLERATION = { key: 'builds', operator: 'Exists' } as const;

export function faultCases(getPlace: () => Place): void {
  describe('a fault of the cluster', { timeout: 240_000 }, () => {
    let spare: Node;
    let core: CoreV1Api;

    beforeAll(async () => {
      const { cluster } = getPlace();
      core = cluster.admin.makeApiClient(CoreV1Api);
      spare = await cluster.addNode(SPARE);
      await patchNode(SPARE.name, { spec: { taints: [TAINT] } });
    }, 90_000);

    async function patchNode(name: string, body: Partial<V1Node>): Promise<void> {
      const merge = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
      await core.patchNode({ name, body }, merge);
    }

    const waitAt = (mark: string) =>
      `FROM ${getPlace().environment.source}\nRUN uname -m > /machine; ${getPlace().gate.command(mark)}\n`;

    async function listPods(): Promise<readonly V1Pod[]> {
      const labelSelector = 'app.kubernetes.io/component=build';
      return (await core.listNamespacedPod({ namespace: getPlace().cluster.namespace, labelSelector })).items;
    }

    /** A build that waits at the gate while the work is done, and then continues to its end. */
    async function build(mark: string, options: Partial<KubernetesOptions>, work: (pod: V1Pod) => Promise<unknown>) {
      const { gate } = getPlace();
      return useBackend(getPlace(), options, async bench => {
        const building = bench.build({ containerFile: waitAt(mark) });
        building.catch(() => undefined);
        await Promise.race([gate.arrive(mark), building]);
        const pod = (await listPods()).find(({ status }) => status?.phase === 'Running');
        if (!pod) throw new Error('no pod runs');
        await work(pod);
        gate.open(mark);
        const { events, pushed } = await building;
        return { pod, pushed, notes: events.flatMap(({ kind, text = '' }) => (kind === 'note' ? [text] : [])) };
      });
    }

    test('a taint keeps pods away, which is reported, and a toleration lets them come', async () => {
      const nodeSelector = { default: { service: SPARE.service } };
      const containerFile = `FROM ${getPlace().environment.source}\nRUN true\n`;
      const { failure } = await useBackend(getPlace(), { nodeSelector, scheduleTimeoutMs: 3000 }, bench =>
        bench.fail({ containerFile }),
      );
      expect(failure).toMatchObject({
        kind: 'timeout',
        reason: expect.stringMatching(/^no node .* for linux\/amd64.*service=spare.*untolerated taint/),
      });
      const { events } = await useBackend(getPlace(), { nodeSelector, tolerations: [TOLERATION] }, bench =>
        bench.build({ containerFile }),
      );
      expect(events.map(({ text }) => text)).toContainEqual(expect.stringMatching(/on the node 127\.0\.0\.2$/));
    });

    test('a pod that is evicted, as from a node that is drained, is begun again, and the build knows why', async () => {
      const { gate } = getPlace();
      const { notes } = await build('evicted', {}, async ({ metadata }) => {
        const { name = '', namespace = '' } = metadata ?? {};
        await core.createNamespacedPodEviction({ name, namespace, body: { metadata: { name, namespace } } });
        await waitUntil(async () =>
          expect((await listPods()).map(each => each.metadata?.uid)).not.toContain(metadata?.uid),
        );
        await gate.arrive('evicted');
      });
      expect(notes).toContainEqual(expect.stringMatching(/^the pod was disrupted: EvictionByEvictionAPI: /));
      expect(notes.filter(text => text.startsWith('works in the pod'))).toHaveLength(2);
    });

    test('an API server that is started again in the middle of a build ends none', async () => {
      const { cluster } = getPlace();
      const { notes, pushed } = await build('restarted', {}, () => cluster.withoutServer(async () => undefined));
      expect(pushed.platforms).toEqual(['linux/amd64']);
      expect(notes.filter(text => text.startsWith('works in the pod'))).toHaveLength(1);
    });

    test('an API server that is away when a build ends is waited for', async () => {
      const { cluster, gate } = getPlace();
      const { pushed } = await build('away', {}, () =>
        cluster.withoutServer(async () => {
          gate.open('away');
          await gate.arrive('away', 0);
        }),
      );
      expect(pushed.platforms).toEqual(['linux/amd64']);
    });

    test('a node that is lost with its pod is no fault of the build, which another node begins again', async () => {
      const { gate } = getPlace();
      const gone = ['unreachable', 'not-ready'].map(what => ({
        key: `node.kubernetes.io/${what}`,
        operator: 'Exists',
        effect: 'NoExecute',
        tolerationSeconds: 0,
      }));
      const options = { nodeSelector: { default: { service: SPARE.service } }, tolerations: [TOLERATION, ...gone] };
      const { notes } = await build('lost', options, async pod => {
        expect(pod.spec?.nodeName).toBe(SPARE.name);
        await spare.kill();
        await patchNode('localhost', { metadata: { labels: { service: SPARE.service } } });
        await waitUntil(async () => {
          const { metadata } = await core.readNamespacedPod({
            name: pod.metadata?.name ?? '',
            namespace: pod.metadata?.namespace ?? '',
          });
          expect(metadata?.deletionTimestamp).toBeDefined();
        });
        await core.deleteNode({ name: SPARE.name });
        // Pods of a node that is gone are collected after a minute.
        await expect.poll(() => gate.countWaiting('lost'), { timeout: 120_000 }).toBe(1);
      });
      expect(notes).toContainEqual(expect.stringMatching(/^the pod was disrupted: DeletionByTaintManager: /));
      expect(notes.at(-1)).toMatch(/on the node localhost$/);
    });
  });
}
