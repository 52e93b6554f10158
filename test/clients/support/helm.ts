// The chart of deploy/helm, rendered by the real helm.
import { type KubernetesObject, loadAllYaml } from '@kubernetes/client-node';
import { stringify } from 'yaml';
import { clientPath } from './clients.ts';
import { run } from './process.ts';

/** Nothing that this machine's user has configured for helm counts. */
const NOWHERE = { HELM_CACHE_HOME: '/nonexistent', HELM_CONFIG_HOME: '/nonexistent', HELM_DATA_HOME: '/nonexistent' };

/** Throws with what helm says. */
export async function lintChart(values: object): Promise<void> {
  const args = ['lint', '--strict', 'deploy/helm/veneer', '--values', '-'];
  await run(clientPath('helm'), args, { env: NOWHERE, input: stringify(values) });
}

/** What a cluster gets with these values, as a release in the namespace `veneer`. Throws with what helm says. */
export async function renderChart(values: object, release = 'team'): Promise<readonly KubernetesObject[]> {
  const args = ['template', release, 'deploy/helm/veneer', '--namespace', 'veneer', '--values', '-'];
  return loadAllYaml(await run(clientPath('helm'), args, { env: NOWHERE, input: stringify(values) }));
}
