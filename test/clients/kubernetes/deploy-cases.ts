// What is deployed in a cluster: its manifests, its rights, and a Veneer that runs in a pod and finds the cluster that it is in.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CoreV1Api, KubernetesObjectApi, loadAllYaml, PatchStrategy } from '@kubernetes/client-node';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { createKubernetesBackend } from '../../../src/builds/backends/kubernetes/backend.ts';
import { readPushed } from '../../support/pushed-image.ts';
import { containerFile, createBuildsClient } from '../support/builds.ts';
import { upstreamsTo } from '../support/daemons.ts';
import { renderChart } from '../support/helm.ts';
import { checkUrl, findFreePort, waitUntil } from '../support/process.ts';
import { clusterOptions } from './cluster.ts';
import type { Place } from './place.ts';

/** Everything that the chart can make, but for what takes a definition of the Prometheus operator. */
const CHART_VALUES = {
  config: { publicUrl: 'https://veneer.example' },
  service: { type: 'NodePort', nodePort: 30_500 },
  ingress: { enabled: true, host: 'veneer.example', tlsSecret: 'veneer-tls' },
  builds: { enabled: true },
  networkPolicy: { enabled: true, from: [{ namespaceSelector: {} }] },
};

export function deployCases(getPlace: () => Place): void {
  const { signal } = new AbortController();

  describe('in deploy/', () => {
    test('every manifest is one that a cluster takes', async () => {
      const { environment, cluster } = getPlace();
      const objects = KubernetesObjectApi.makeApiClient(cluster.admin);
      // Those of Prometheus, Compose and kustomize are none.
      const files = (await readdir('deploy')).filter(name =>
        /^(?!prometheus-|kustomization|compose).*\.yaml$/.test(name),
      );
      files.push('replicas/veneer.yaml');
      const manifests = await Promise.all(files.map(name => readFile(join('deploy', name), 'utf8')));
      const taken: string[] = [];
      for (const object of [...manifests.flatMap(text => loadAllYaml(text)), ...(await renderChart(CHART_VALUES))]) {
        const { kind, metadata } = await objects.patch(
          object,
          undefined,
          'All',
          environment.registry,
          true,
          PatchStrategy.ServerSideApply,
        );
        taken.push(`${kind} ${metadata?.namespace ?? metadata?.name}`);
      }
      expect(taken).toEqual(
        expect.arrayContaining(['Deployment veneer', 'StatefulSet veneer', 'Role veneer', 'Ingress veneer']),
      );
    });
  });

  describe('a cluster', () => {
    test('without the rights of the Role says which are missing', async () => {
      const backend = createKubernetesBackend({ ...clusterOptions(getPlace().cluster), namespace: 'default' });
      await expect(backend.listPlatforms(signal)).rejects.toThrow(
        /in the namespace default .* may not: create jobs, .*get pods\/log, create secrets.*deploy\/kubernetes\.yaml/,
      );
      await backend.close();
    });

    test('that does not answer is unavailable', async () => {
      const { environment, cluster } = getPlace();
      const file = join(environment.folder, 'nowhere.kubeconfig');
      const server = `https://127.0.0.1:${await findFreePort()}`;
      const contexts = [{ name: 'x', context: { cluster: 'c', user: 'u' } }];
      const config = { clusters: [{ name: 'c', cluster: { server } }], users: [{ name: 'u', user: {} }], contexts };
      await writeFile(file, JSON.stringify({ ...config, 'current-context': 'x' }));
      const backend = createKubernetesBackend({ ...clusterOptions(cluster), kubeconfig: file });
      await expect(backend.listPlatforms(signal)).rejects.toThrow(/ECONNREFUSED/);
      await backend.close();
    });

    test('whose nodes have no user namespaces says so where it is configured, and where it chooses', async () => {
      const { cluster } = getPlace();
      const options = { ...clusterOptions(cluster), kubeconfig: cluster.adminKubeconfig };
      const configured = createKubernetesBackend({ ...options, security: 'userns' });
      await expect(configured.listPlatforms(signal)).rejects.toThrow(
        /^security: userns: the runtime of the node \S+ does not report support for them; set security: rootless, or privileged$/,
      );
      const choosing = createKubernetesBackend({ ...options, security: 'auto' });
      await choosing.listPlatforms(signal);
      expect(choosing.listNotes?.()).toContainEqual(
        expect.stringMatching(
          /^rootless: .*; no user namespaces: the runtime of the node \S+ does not report support for them/,
        ),
      );
      for (const backend of [configured, choosing]) await backend.close();
    });
  });

  describe('Veneer in a pod', { timeout: 240_000 }, () => {
    /** As deploy/kubernetes.yaml runs it, with the files of this machine for its image. */
    async function serve(name: string, builds: object) {
      const { environment, cluster } = getPlace();
      const address = `127.0.0.1:${await findFreePort()}`;
      const folder = join(environment.folder, name);
      await mkdir(folder);
      const file = join(folder, 'veneer.yaml');
      const publicUrl = `http://${address}`;
      const config = {
        listen: address,
        publicUrl,
        dataDir: join(folder, 'data'),
        upstreams: upstreamsTo(environment.registry),
      };
      await writeFile(file, stringify({ ...config, builds }));
      const mounts = ['/lib', '/lib64', '/usr/lib', process.cwd(), environment.folder].map((path, at) => ({
        name: `m${at}`,
        path,
      }));
      const { hostname, port } = new URL(cluster.server);
      const { namespace } = cluster;
      await cluster.admin.makeApiClient(CoreV1Api).createNamespacedPod({
        namespace,
        body: {
          metadata: { name, namespace },
          spec: {
            serviceAccountName: 'veneer',
            restartPolicy: 'Never',
            terminationGracePeriodSeconds: 1,
            nodeSelector: { service: 'wave-build' },
            containers: [
              {
                name: 'veneer',
                image: environment.source,
                command: [process.execPath, 'src/main.ts', '--config', file],
                workingDir: process.cwd(),
                env: [
                  { name: 'PATH', value: '/bin' },
                  // There is no proxy here that would lead to the address of the cluster's own service.
                  { name: 'KUBERNETES_SERVICE_HOST', value: hostname },
                  { name: 'KUBERNETES_SERVICE_PORT', value: port },
                ],
                volumeMounts: mounts.map(mount => ({ name: mount.name, mountPath: mount.path })),
              },
            ],
            volumes: mounts.map(mount => ({ name: mount.name, hostPath: { path: mount.path } })),
          },
        },
      });
      await waitUntil(() => checkUrl(`http://${address}/health/ready`));
      return createBuildsClient(address);
    }

    const from = (...steps: readonly string[]) => containerFile(`FROM ${getPlace().environment.source}`, ...steps);

    test('finds the cluster that it is in by itself, and builds in it with what nobody has configured', async () => {
      const client = await serve('veneer-auto', {});
      await waitUntil(async () => {
        const info = await (await client.ask('/service-info')).json();
        expect(info).toMatchObject({ serviceInfo: { builders: [{ kind: 'kubernetes' }, { kind: 'embedded' }] } });
      });
      const { targetImage, buildId } = await client.build({ containerFile: from('RUN uname -m > /machine') });
      expect((await readPushed(targetImage)).platforms).toEqual(['linux/amd64']);
      expect(await client.readLog(buildId)).toContain('works in the pod');
    });

    test('builds in it where that is configured without a kubeconfig', async () => {
      const nodeSelector = { 'linux/arm64': 'service=wave-build-arm64' };
      const client = await serve('veneer-configured', { backends: [{ type: 'kubernetes', nodeSelector }] });
      const containerPlatform = 'linux/arm64';
      const { targetImage } = await client.build({ containerFile: from('RUN uname -m > /machine'), containerPlatform });
      const [image] = (await readPushed(targetImage)).images;
      expect((await image?.readFile('/machine'))?.trim()).toBe('aarch64');
    });
  });
}
