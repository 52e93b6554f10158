// One run of the collection: what its parts share.
import { setImmediate } from 'node:timers/promises';
import type { Hand } from './collect-hand.ts';
import type { CollectProgress } from './collect-report.ts';
import type { Retention } from './retention.ts';
import type { Room } from './room.ts';

export interface Run {
  readonly room: Room;
  readonly hand: Hand;
  readonly retention: Retention;
  readonly startedAt: Date;
  /** What was pushed, mounted or asked for after this instant stays. ISO 8601 in UTC, as all of these. */
  readonly graceBefore: string;
  /** What was pushed or lost a tag after this instant stays, though nothing refers to it; undefined: manifests stay. */
  readonly untaggedBefore: string | undefined;
  /** Called at each thing that is looked at: lets others have their turn, tells how far the run is, and throws where it is to stop. */
  visit(): Promise<void>;
  /** Called after each repository. */
  finishRepository(): void;
}

export interface VisitOptions {
  readonly onProgress?: ((progress: CollectProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Record stores may answer without leaving the event loop's turn: without a pause, nobody else would be served for as long as the run takes. */
const VISITS_PER_TURN = 50;
const VISITS_PER_REPORT = 1_000;

export function countVisits({ onProgress = () => {}, signal }: VisitOptions): Pick<Run, 'visit' | 'finishRepository'> {
  const progress = { repositories: 0, visited: 0 };
  return {
    async visit() {
      signal?.throwIfAborted();
      progress.visited += 1;
      if (progress.visited % VISITS_PER_REPORT === 0) onProgress({ ...progress });
      if (progress.visited % VISITS_PER_TURN === 0) await setImmediate();
    },
    finishRepository() {
      progress.repositories += 1;
      onProgress({ ...progress });
    },
  };
}
