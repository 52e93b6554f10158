// How far each platform of a build is: steps done of those that are known.
import type { LogEntry } from '../../builds/progress.ts';

interface PlatformProgress {
  /** `build` for the steps that belong to no platform. */
  readonly platform: string;
  readonly done: number;
  readonly total: number;
  /** The step that began or ended last. */
  readonly step: string;
}

interface StepCounter {
  /** How far the entry's platform is now; undefined where the entry is about no step. */
  count(entry: LogEntry): PlatformProgress | undefined;
}

interface Steps {
  readonly known: Set<string>;
  readonly done: Set<string>;
}

export function createStepCounter(): StepCounter {
  const platforms = new Map<string, Steps>();
  return {
    count({ kind, platform = 'build', step, state }) {
      if (kind !== 'step' || step === undefined) return undefined;
      const { known, done } = platforms.get(platform) ?? { known: new Set(), done: new Set() };
      platforms.set(platform, { known, done });
      known.add(step);
      if (state === 'done' || state === 'cached') done.add(step);
      return { platform, done: done.size, total: countOf(known), step };
    },
  };
}

/** A step such as `[linux/arm64 build 2/3] RUN make` tells of the others in its stage. */
function countOf(steps: ReadonlySet<string>): number {
  const stages = new Map<string, number>();
  for (const step of steps) {
    const [, stage, total] = /^(\[(?:[^\]]* )?)\d{1,4}\/(\d{1,4})\]/.exec(step) ?? [];
    stages.set(stage ?? step, Number(total ?? 1));
  }
  return stages.values().reduce((sum, total) => sum + total, 0);
}
