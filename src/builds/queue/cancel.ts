// Ending a build before its time: one that waits leaves at once, one that runs is stopped.

import { BuildStopped } from '../maker.ts';
import type { BuildRecord } from '../record.ts';
import type { EndJob } from './end-job.ts';
import { hasEnded, type Job } from './job.ts';
import type { Jobs } from './jobs.ts';
import type { Queue } from './queue.ts';

interface CancelDeps {
  readonly jobs: Jobs;
  readonly queue: Queue<Job>;
  readonly endJob: EndJob;
}

/** Resolves when the build has stopped; undefined where it is not under way. */
export function createCancel({ jobs, queue, endJob }: CancelDeps): (id: string) => Promise<BuildRecord | undefined> {
  return async id => {
    const job = jobs.get(id);
    if (!job || hasEnded(job.record)) return job?.record;
    const stopped = new BuildStopped('cancelled', 'it was cancelled');
    job.stop.abort(stopped);
    if (queue.remove(job)) await endJob(job, { failure: { kind: 'cancelled', reason: stopped.message } });
    return jobs.waitFor(job, new AbortController().signal);
  };
}
