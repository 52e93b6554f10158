// A buildah on this machine.
import { BackendUnavailable } from '../../backend.ts';
import type { Detect } from '../../detect.ts';
import { type BuildahOptions, createBuildahBackend } from './backend.ts';
import { type Isolation, isolations } from './isolation.ts';

type BuildahDetectOptions = Pick<BuildahOptions, 'command' | 'root' | 'runRoot' | 'storageDriver'>;

/** Gives buildah where it is there and its storage answers. It isolates as BUILDAH_ISOLATION says, where that is set. */
export function detectBuildah(options: BuildahDetectOptions = {}): Detect {
  return async ({ environment, signal, onMiss }) => {
    const isolation = findIsolation(environment.BUILDAH_ISOLATION);
    const backend = createBuildahBackend({ name: 'buildah', ...options, environment, isolation });
    // A service that ends does not wait for what a trial would show.
    signal.addEventListener('abort', () => void backend.close(), { once: true });
    try {
      await backend.listPlatforms(signal);
      return backend;
    } catch (error) {
      if (!(error instanceof BackendUnavailable)) throw error;
      onMiss(`buildah: ${error.message}`);
      return undefined;
    }
  };
}

function findIsolation(text: string | undefined): Isolation | undefined {
  return isolations.find(isolation => isolation === text);
}
