// A Docker engine with buildx on this machine, or where DOCKER_HOST says.
import { BackendUnavailable } from '../../backend.ts';
import type { Detect } from '../../detect.ts';
import { createDockerBackend, type DockerOptions } from './backend.ts';

/** Gives the builder that is in use, where buildx is there and the builder answers. */
export function detectDocker(options: Pick<DockerOptions, 'command'> = {}): Detect {
  return async ({ environment, signal, onMiss }) => {
    const backend = createDockerBackend({ name: 'docker', ...options, environment });
    try {
      await backend.listPlatforms(signal);
      return backend;
    } catch (error) {
      if (!(error instanceof BackendUnavailable)) throw error;
      onMiss(`Docker: ${error.message}`);
      return undefined;
    }
  };
}
