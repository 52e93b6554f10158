// The buildkit backend with a real buildkitd.
import { describe } from 'vitest';
import { createBuildkitBackend } from '../../src/build/buildkit/backend.ts';
import { backendContract } from '../contract/build-backend.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startGuardedRegistry } from './support/guarded-registry.ts';
import { createLab, LAB_COMMANDS } from './support/lab.ts';

const missing = findMissing(LAB_COMMANDS);

describe.skipIf(missing)(`buildkit${missing ? ` (${missing})` : ''}`, () => {
  backendContract(
    async () => {
      const lab = await createLab();
      const { address, credentials } = await lab.keep(startGuardedRegistry(lab.folder));
      const backend = createBuildkitBackend({
        name: 'buildkit',
        address: lab.buildkit,
        command: clientPath('buildctl'),
        environment: process.env,
      });
      return {
        backend,
        folder: lab.folder,
        registry: lab.registry,
        base: lab.source,
        guarded: { registry: address, credentials },
        close: lab.close,
      };
    },
    { hasRun: true, isMultiPlatform: true },
  );
});
