// What a BuildKit can build for, as its workers say.
import { z } from 'zod';
import { normalizePlatform, type Platform } from '../../oci/platform.ts';
import { withOlderArms } from '../arm-variants.ts';
import { BackendUnavailable } from '../backend.ts';

const platformSchema = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const workersSchema = z.array(z.object({ platforms: z.array(platformSchema).nullish() }));

/** The template that `buildctl debug workers --format` gets. */
export const WORKERS_FORMAT = '{{json .}}';

/** The platforms of all workers, normalised, each once. Throws BackendUnavailable for what is no answer. */
export function parseWorkers(output: string): readonly Platform[] {
  return withOlderArms(workersOf(output).flatMap(worker => (worker.platforms ?? []).map(normalizePlatform)));
}

function workersOf(output: string): z.output<typeof workersSchema> {
  try {
    return workersSchema.parse(JSON.parse(output));
  } catch (cause) {
    throw new BackendUnavailable('the list of workers is not one that BuildKit gives', { cause });
  }
}
