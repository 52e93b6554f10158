// The embedded backend by the contract of all backends, with the service's own connections to real registries.
import { describe } from 'vitest';
import { createEmbeddedBackend } from '../../src/builds/backends/embedded/backend.ts';
import { createBaseImages } from '../../src/pull/images.ts';
import { backendContract } from '../contract/build-backend.ts';
import { createCopying } from '../copy/copying.ts';
import { findMissing } from './support/clients.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS } from './support/environment.ts';
import { startGuardedRegistry } from './support/guarded-registry.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);

describe.skipIf(missing)(`embedded${missing ? ` (${missing})` : ''}`, () => {
  backendContract(
    async () => {
      const environment = await createEnvironment();
      const { address, credentials } = await environment.keep(startGuardedRegistry(environment.folder));
      const { deps, close } = await createCopying(
        {},
        {
          [environment.registry]: { url: `http://${environment.registry}` },
          [address]: { url: `http://${address}`, credentials },
        },
      );
      const { origins, openDestination } = deps;
      return {
        backend: createEmbeddedBackend({ images: createBaseImages(origins), openDestination }),
        folder: environment.folder,
        registry: environment.registry,
        base: environment.source,
        guarded: { registry: address, credentials },
        async close() {
          await close();
          await environment.close();
        },
      };
    },
    { hasRun: false, isMultiPlatform: true, takesCredentials: false },
  );
});
