// Follows the log of a build to its end, over connections that break.
import { EventSourceParserStream } from 'eventsource-parser/stream';
import pRetry, { type Options } from 'p-retry';
import { type LogEntry, logEntrySchema } from '../../builds/progress.ts';
import { type Build, type BuildsClient, buildSchema, hasEnded, parseAnswer } from './builds.ts';
import { ServiceRefused } from './service.ts';

/** How a connection that broke, or was refused for now, is tried again; what has been read begins the count anew. */
export type Patience = Pick<Options, 'retries' | 'minTimeout' | 'maxTimeout' | 'factor'>;

interface FollowOptions {
  /** Called once for each entry, in order. */
  readonly onEntry: (entry: LogEntry) => void;
  /** Ends the following, not the build. */
  readonly signal: AbortSignal;
  readonly patience?: Patience | undefined;
}

/** About a minute: as long as a service takes to start again. */
const PATIENCE: Patience = { retries: 10, minTimeout: 500, maxTimeout: 10_000, factor: 2 };
const MAX_EVENT_CHARACTERS = 4 * 1024 * 1024;

/** Resolves with the build when it has ended. Throws ServiceRefused, or the signal's reason. */
export async function followBuild(builds: BuildsClient, id: string, options: FollowOptions): Promise<Build> {
  const { onEntry, signal, patience = PATIENCE } = options;
  let told = 0;

  /** Reads one connection; undefined where it broke further on than the one before. */
  async function readOn(): Promise<Build | undefined> {
    const before = told;
    let seen = 0;
    for await (const { event, data } of readEvents(await builds.openEvents(id, signal), signal)) {
      const build = event === 'end' ? parseAnswer(buildSchema, data, builds.host) : undefined;
      // One that has not ended goes on when the service starts again.
      if (build && hasEnded(build)) return build;
      if (event !== 'log') continue;
      seen += 1;
      // Each connection begins with the beginning of the log.
      if (seen <= told) continue;
      told = seen;
      onEntry(parseAnswer(logEntrySchema, data, builds.host));
    }
    if (told > before) return undefined;
    throw new ServiceRefused(`${builds.host} broke off`, { isPassing: true });
  }

  for (;;) {
    const shouldRetry: Options['shouldRetry'] = ({ error }) => error instanceof ServiceRefused && error.isPassing;
    const build = await pRetry(readOn, { ...patience, signal, shouldRetry });
    if (build) return build;
  }
}

/** Ends where the connection does, in whatever way. */
async function* readEvents({ body }: Response, signal: AbortSignal) {
  const parser = new EventSourceParserStream({ maxBufferSize: MAX_EVENT_CHARACTERS });
  const events = body?.pipeThrough(new TextDecoderStream()).pipeThrough(parser) ?? ReadableStream.from([]);
  const reader = events.getReader();
  try {
    for (;;) {
      const next = await reader.read().catch(() => undefined);
      signal.throwIfAborted();
      if (!next || next.done) return;
      yield next.value;
    }
  } finally {
    // What broke has nothing left to cancel.
    await reader.cancel().catch(() => {});
  }
}
