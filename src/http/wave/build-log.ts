// Sends the log of a build: as text, or as server-sent events, to its end or as far as it exists.
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import type { Logger } from 'pino';
import type { Builds } from '../../builds/builds.ts';
import type { LogEntry } from '../../builds/progress.ts';
import { formatLogEntry } from '../../builds/progress.ts';
import type { BuildRecord } from '../../builds/record.ts';
import { ApiError } from '../../submit/errors.ts';

/** `describe` returns the last event, once the log has ended. Throws ApiError where there is no log. */
type SendLog = (c: Context, build: BuildRecord, describe: (build: BuildRecord) => object) => Promise<Response>;

/** Proxies in between close a stream that is silent for long. */
const KEEP_ALIVE_MS = 15_000;
const HEADERS = { 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' };

export function createSendLog({
  builds,
  log,
}: {
  readonly builds: Pick<Builds, 'find' | 'openLog'>;
  readonly log: Logger;
}): SendLog {
  function sendEvents(
    c: Context,
    entries: AsyncIterable<LogEntry>,
    findEnd: () => Promise<object | undefined>,
  ): Response {
    return streamSSE(
      c,
      async stream => {
        const keepAlive = setInterval(() => void stream.write(': \n\n'), KEEP_ALIVE_MS);
        try {
          for await (const entry of entries) await stream.writeSSE({ event: 'log', data: JSON.stringify(entry) });
          const end = await findEnd();
          if (end) await stream.writeSSE({ event: 'end', data: JSON.stringify(end) });
        } finally {
          clearInterval(keepAlive);
        }
      },
      async error => {
        if (!c.req.raw.signal.aborted) log.error({ err: error }, 'the log of a build was cut short');
      },
    );
  }

  return async (c, build, describe) => {
    const follow = parseFollow(c.req.query('follow') || 'true');
    const isEvents = c.req.header('Accept')?.includes('text/event-stream') === true;
    const headers = { ...HEADERS, 'Content-Type': isEvents ? 'text/event-stream' : 'text/plain; charset=utf-8' };
    const entries = await builds.openLog(build.id, { follow, signal: c.req.raw.signal });
    if (!entries) throw new ApiError(404, `the log of ${build.id} has been deleted`);
    // A HEAD has no body: nothing is read.
    if (c.req.method === 'HEAD') return c.body(null, 200, headers);
    if (!isEvents) return c.body(toText(entries), 200, headers);
    for (const [name, value] of Object.entries(HEADERS)) c.header(name, value);
    return sendEvents(c, entries, async () => {
      const ended = await builds.find(build.id);
      return ended && describe(ended);
    });
  };
}

function toText(entries: AsyncIterable<LogEntry>): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const iterator = entries[Symbol.asyncIterator]();
  const source = {
    async pull(controller: ReadableStreamDefaultController<Uint8Array>) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(`${formatLogEntry(value)}\n`));
    },
    async cancel() {
      await iterator.return?.();
    },
  };
  // No file is opened before something reads.
  return new ReadableStream(source, { highWaterMark: 0 });
}

function parseFollow(text: string): boolean {
  if (text === 'true' || text === 'false') return text === 'true';
  throw new ApiError(400, `follow is "${text.slice(0, 40)}": expected true or false`);
}
