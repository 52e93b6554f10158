// Base images pinned to what the plan resolved: a tag that moves meanwhile changes nothing.
import type { BuildOrder } from '../../backend.ts';
import { hasStage } from '../../containerfile/has-stage.ts';

/**
 * Values of `--build-context`, one for each base by its name as the Containerfile has it. A name that is a stage's too gets none: it
 * would take the stage's place.
 */
export function pinBases({ bases, spec }: Pick<BuildOrder, 'bases' | 'spec'>): readonly string[] {
  return [...bases]
    .filter(([name]) => !hasStage(spec.containerFile, name))
    .map(([name, base]) => `${name}=docker-image://${base.name}`);
}
