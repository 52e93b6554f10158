// Where builds on Kubernetes are tried: a cluster, what it stands on, and a backend of it with options of its own.
import { randomUUID } from 'node:crypto';
import { createKubernetesBackend, type KubernetesOptions } from '../../../src/builds/backends/kubernetes/backend.ts';
import { type Bench, createBench } from '../../support/build-bench.ts';
import type { Environment } from '../support/environment.ts';
import type { Gate } from '../support/gate.ts';
import { type Cluster, clusterOptions } from './cluster.ts';

export interface Place {
  readonly environment: Environment;
  readonly cluster: Cluster;
  readonly gate: Gate;
}

/** A bench whose backend has these options. Each has images of its own, by which Jobs have their names. */
export async function useBackend<T>(
  { environment, cluster }: Place,
  options: Partial<KubernetesOptions>,
  work: (bench: Bench) => Promise<T>,
): Promise<T> {
  const backend = createKubernetesBackend({ ...clusterOptions(cluster), ...options });
  const { folder, registry, source: base, close } = environment;
  const guarded = { registry, credentials: { username: '', password: '' } };
  const bench = createBench({ backend, folder, registry, base, guarded, close });
  const named = <O extends { readonly image?: string }>(order: O) => ({
    image: `${registry}/builds/${randomUUID()}:1`,
    ...order,
  });
  try {
    return await work({
      ...bench,
      build: order => bench.build(named(order)),
      fail: order => bench.fail(named(order)),
      prepare: order => bench.prepare(named(order)),
    });
  } finally {
    await backend.close();
  }
}
