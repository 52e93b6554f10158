// The kubernetes backend with a real cluster: what every builder keeps to, and how its pods end before their time.
import { describe, expect, test } from 'vitest';
import { createKubernetesBackend, type KubernetesOptions } from '../../src/builds/backends/kubernetes/backend.ts';
import { backendContract } from '../contract/build-backend.ts';
import { createBench } from '../support/build-bench.ts';
import { createBackendPlace } from './support/backend-place.ts';
import { findMissing } from './support/clients.ts';
import { CLUSTER_COMMANDS, type Cluster, clusterOptions, startCluster } from './support/cluster.ts';
import { createLab, LAB_COMMANDS, type Lab } from './support/lab.ts';

const missing = findMissing([...LAB_COMMANDS, ...CLUSTER_COMMANDS]);

describe.skipIf(missing)(`kubernetes${missing ? ` (${missing})` : ''}`, () => {
  let lab: Lab;
  let cluster: Cluster;

  backendContract(
    async () => {
      lab = await createLab();
      cluster = await startCluster(lab);
      return createBackendPlace(lab, createKubernetesBackend({ ...clusterOptions(cluster), isOneJob: true }));
    },
    { hasRun: true, isMultiPlatform: true },
  );

  describe('a pod', { timeout: 90_000 }, () => {
    async function fail(options: Partial<KubernetesOptions>, order: { run: string; spec?: object }) {
      const backend = createKubernetesBackend({ ...clusterOptions(cluster), ...options });
      const place = { backend, folder: lab.folder, registry: lab.registry, base: lab.source, close: lab.close };
      const guarded = { registry: lab.registry, credentials: { username: '', password: '' } };
      const bench = createBench({ ...place, guarded });
      try {
        const containerFile = `FROM ${lab.source}\nRUN ${order.run}\n`;
        return await bench.fail({ containerFile, spec: { ...order.spec } });
      } finally {
        await backend.close();
      }
    }

    test('that takes longer than its Job may is a time-out', async () => {
      const { failure } = await fail({}, { run: 'sleep 600', spec: { timeoutMs: 8000 } });
      expect(failure).toMatchObject({ kind: 'timeout', reason: expect.stringContaining('not done after 8 s') });
    });

    test('that takes more memory than it may says what the limit is', async () => {
      const resources = { requests: {}, limits: { memory: '300Mi' } };
      const { failure } = await fail(
        { resources },
        { run: 'head -c 900000000 /dev/zero | tail -c 800000000 > /dev/null' },
      );
      expect(failure).toMatchObject({ kind: 'build', reason: 'out of memory: the limit is 300Mi' });
    });

    test('whose image is not there says which, while it waits and in the end', async () => {
      const image = `${lab.registry}/no/such:1`;
      const { failure, told } = await fail({ image, scheduleTimeoutMs: 4000 }, { run: 'true' });
      const words = `the image ${image} cannot be pulled`;
      expect(failure).toMatchObject({ kind: 'timeout', reason: expect.stringContaining(words) });
      expect(told.map(({ text }) => text)).toContainEqual(expect.stringContaining(words));
    });

    test('that does not reach Veneer says at which address', async () => {
      const callbackUrl = new URL('http://127.0.0.1:9');
      const { failure } = await fail({ callbackUrl }, { run: 'true' });
      expect(failure).toMatchObject({
        kind: 'infrastructure',
        reason: expect.stringContaining('does not reach Veneer at http://127.0.0.1:9'),
      });
    });
  });
});
