// Builds on a real cluster of two nodes, which all cases share: what every builder keeps to, what Veneer makes of it, and what happens to its pods.
import { afterAll, beforeAll, describe } from 'vitest';
import { createKubernetesBackend } from '../../src/builds/backends/kubernetes/backend.ts';
import { backendContract } from '../contract/build-backend.ts';
import { buildCases } from './kubernetes/build-cases.ts';
import { CLUSTER_COMMANDS, clusterOptions, startCluster } from './kubernetes/cluster.ts';
import { deployCases } from './kubernetes/deploy-cases.ts';
import { faultCases } from './kubernetes/fault-cases.ts';
import type { Place } from './kubernetes/place.ts';
import { podCases } from './kubernetes/pod-cases.ts';
import { createBackendPlace } from './support/backend-place.ts';
import { findMissing } from './support/clients.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { startGate } from './support/gate.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, ...CLUSTER_COMMANDS, 'dockerd', 'docker']);

describe.skipIf(missing)(`kubernetes${missing ? ` (${missing})` : ''}`, () => {
  let environment: Environment;
  let place: Place;

  beforeAll(async () => {
    environment = await createEnvironment();
    place = { environment, cluster: await startCluster(environment), gate: await environment.keep(startGate()) };
  }, 240_000);

  afterAll(() => environment?.close(), 60_000);

  const getPlace = () => place;

  // On a busy machine a cluster refuses a request now and then, which the queue of builds would try again.
  describe('among others', { concurrent: true, retry: 1 }, () => {
    backendContract(
      async () => {
        const backend = createKubernetesBackend({ ...clusterOptions(place.cluster), isOneJob: true });
        return { ...(await createBackendPlace(environment, backend)), close: () => backend.close() };
      },
      { hasRun: true, isMultiPlatform: true },
    );
    buildCases(getPlace);
    podCases(getPlace);
    deployCases(getPlace);
  });

  faultCases(getPlace);
});
