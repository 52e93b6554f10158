// The buildkit backend with a real buildkitd.
import { describe } from 'vitest';
import { createBuildkitBackend } from '../../src/builds/backends/buildkit/backend.ts';
import { backendContract } from '../contract/build-backend.ts';
import { createBackendPlace } from './support/backend-place.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { createLab, LAB_COMMANDS } from './support/lab.ts';

const missing = findMissing(LAB_COMMANDS);

describe.skipIf(missing)(`buildkit${missing ? ` (${missing})` : ''}`, () => {
  backendContract(
    async () => {
      const lab = await createLab();
      const backend = createBuildkitBackend({
        name: 'buildkit',
        address: lab.buildkit,
        command: clientPath('buildctl'),
        environment: process.env,
      });
      return createBackendPlace(lab, backend);
    },
    { hasRun: true, isMultiPlatform: true },
  );
});
