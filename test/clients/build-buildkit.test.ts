// The buildkit backend with a real buildkitd.
import { describe } from 'vitest';
import { createBuildkitBackend } from '../../src/builds/backends/buildkit/backend.ts';
import { backendContract } from '../contract/build-backend.ts';
import { createBackendPlace } from './support/backend-place.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS } from './support/environment.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);

describe.skipIf(missing)(`buildkit${missing ? ` (${missing})` : ''}`, () => {
  backendContract(
    async () => {
      const environment = await createEnvironment();
      const backend = createBuildkitBackend({
        name: 'buildkit',
        address: environment.buildkit,
        command: clientPath('buildctl'),
        environment: process.env,
      });
      return createBackendPlace(environment, backend);
    },
    { hasRun: true, isMultiPlatform: true },
  );
});
