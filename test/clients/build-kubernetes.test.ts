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
import { startGate } from './support/gate.ts';
import { createLab, LAB_COMMANDS, type Lab } from './support/lab.ts';

const missing = findMissing([...LAB_COMMANDS, ...CLUSTER_COMMANDS, 'dockerd', 'docker']);

describe.skipIf(missing)(`kubernetes${missing ? ` (${missing})` : ''}`, () => {
  let lab: Lab;
  let place: Place;

  beforeAll(async () => {
    lab = await createLab();
    place = { lab, cluster: await startCluster(lab), gate: await lab.keep(startGate()) };
  }, 240_000);

  afterAll(() => lab?.close(), 60_000);

  const getPlace = () => place;

  describe('among others', { concurrent: true }, () => {
    backendContract(
      async () => {
        const backend = createKubernetesBackend({ ...clusterOptions(place.cluster), isOneJob: true });
        return { ...(await createBackendPlace(lab, backend)), close: () => backend.close() };
      },
      { hasRun: true, isMultiPlatform: true },
    );
    buildCases(getPlace);
    podCases(getPlace);
    deployCases(getPlace);
  });

  faultCases(getPlace);
});
