// The embedded backend by the contract of all backends, with the service's own connections to real registries.
import { describe } from 'vitest';
import { createEmbeddedBackend } from '../../src/builds/backends/embedded/backend.ts';
import { createBaseImages } from '../../src/pull/images.ts';
import { backendContract } from '../contract/build-backend.ts';
import { createCopying } from '../copy/copying.ts';
import { findMissing } from './support/clients.ts';
import { startGuardedRegistry } from './support/guarded-registry.ts';
import { createLab, LAB_COMMANDS } from './support/lab.ts';

const missing = findMissing(LAB_COMMANDS);

describe.skipIf(missing)(`embedded${missing ? ` (${missing})` : ''}`, () => {
  backendContract(
    async () => {
      const lab = await createLab();
      const { address, credentials } = await lab.keep(startGuardedRegistry(lab.folder));
      const { deps, close } = await createCopying(
        {},
        { [lab.registry]: { url: `http://${lab.registry}` }, [address]: { url: `http://${address}`, credentials } },
      );
      const { origins, openDestination } = deps;
      return {
        backend: createEmbeddedBackend({ images: createBaseImages(origins), openDestination }),
        folder: lab.folder,
        registry: lab.registry,
        base: lab.source,
        guarded: { registry: address, credentials },
        async close() {
          await close();
          await lab.close();
        },
      };
    },
    { hasRun: false, isMultiPlatform: true, takesCredentials: false },
  );
});
