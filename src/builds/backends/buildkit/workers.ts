// What a BuildKit can build for, as its workers say.
import { z } from 'zod';
import { normalizePlatform, type Platform } from '../../../oci/platform.ts';
import { withOlderArms } from '../../arm-variants.ts';
import { BackendUnavailable } from '../../backend.ts';

/** What tells which network a step gets: `host`, or one of its own. */
export const NETWORK_LABEL = 'org.mobyproject.buildkit.worker.network';

const platformSchema = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const workersSchema = z.array(
  z.object({
    platforms: z.array(platformSchema).nullish(),
    labels: z.record(z.string(), z.string()).nullish(),
  }),
);

/** The template that `buildctl debug workers --format` gets. */
export const WORKERS_FORMAT = '{{json .}}';

interface Workers {
  /** Of all of them, normalised, each once. */
  readonly platforms: readonly Platform[];
  /** Whether a step of any has the network of its machine. */
  readonly hasHostNetwork: boolean;
}

/** Throws BackendUnavailable for what is no answer. */
export function parseWorkers(output: string): Workers {
  const workers = workersOf(output);
  return {
    platforms: withOlderArms(workers.flatMap(worker => (worker.platforms ?? []).map(normalizePlatform))),
    hasHostNetwork: workers.some(({ labels }) => labels?.[NETWORK_LABEL] === 'host'),
  };
}

function workersOf(output: string): z.output<typeof workersSchema> {
  try {
    return workersSchema.parse(JSON.parse(output));
  } catch (cause) {
    throw new BackendUnavailable('the list of workers is not one that BuildKit gives', { cause });
  }
}
