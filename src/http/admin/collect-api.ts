// Garbage collection on demand, in the service that has the registry open. It may take long: progress lines keep the connection alive.

import { type Context, Hono } from 'hono';
import type { Logger } from 'pino';
import type { GarbageCollector, GcOptions } from '../../hosted/gc/collector.ts';
import { GcRefused } from '../../hosted/gc/orphans.ts';
import { encodeLine, GC_LINES_MEDIA_TYPE, type GcLine } from '../../hosted/gc/report.ts';
import { RegistryError } from '../../oci/errors.ts';
import { ApiError } from '../../submit/errors.ts';
import { requireAdmin } from '../middleware/authentication.ts';
import { noteAction } from '../middleware/request-log.ts';

export function createCollectApi({
  collector,
  log,
}: {
  readonly collector: GarbageCollector;
  readonly log: Logger;
}): Hono {
  const app = new Hono();
  app.post('/v1/hosted/collect', c => {
    requireAdmin(c);
    const [dryRun, force] = [parseFlag(c, 'dryRun'), parseFlag(c, 'force')];
    if (!dryRun) noteAction(c, 'hosted.collect', { target: force ? 'force' : undefined });
    const lines = createLines(collector, { dryRun, force }, error => {
      if (error instanceof GcRefused) log.error({ reason: error.message }, 'garbage collection was refused');
      else log.error({ err: error }, 'garbage collection failed');
    });
    return c.body(lines, 200, { 'Content-Type': GC_LINES_MEDIA_TYPE, 'Cache-Control': 'no-store' });
  });
  return app;
}

function parseFlag(c: Context, name: 'dryRun' | 'force'): boolean {
  const text = c.req.query(name) ?? 'false';
  if (text === 'true' || text === 'false') return text === 'true';
  throw new ApiError(400, `${name} is "${text.slice(0, 40)}": expected true or false`);
}

/** A client that stops reading stops the collection. */
function createLines(
  { collect }: GarbageCollector,
  options: Pick<GcOptions, 'dryRun' | 'force'>,
  onFailed: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const stop = new AbortController();

  async function run(send: (line: GcLine) => void): Promise<GcLine> {
    const onProgress = (progress: { repositories: number; visited: number }) => send({ kind: 'progress', progress });
    onProgress({ repositories: 0, visited: 0 });
    try {
      return { kind: 'report', report: await collect({ ...options, onProgress, signal: stop.signal }) };
    } catch (error) {
      if (!stop.signal.aborted) onFailed(error);
      return { kind: 'error', message: messageOf(error) };
    }
  }

  return new ReadableStream({
    start(controller) {
      const send = (line: GcLine) => {
        // A slow reader skips progress lines: they are not buffered.
        if ((controller.desiredSize ?? 0) > 0) controller.enqueue(encodeLine(line));
      };
      void run(send).then(last => {
        if (stop.signal.aborted) return;
        controller.enqueue(encodeLine(last));
        controller.close();
      });
    },
    cancel: () => stop.abort(new Error('the client has left')),
  });
}

function messageOf(error: unknown): string {
  const isPublic = error instanceof RegistryError || error instanceof GcRefused;
  return isPublic ? error.message : 'garbage collection failed: see the log of Veneer for the cause';
}
