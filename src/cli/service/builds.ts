// A client of the image and build API, docs/api.md. Every function throws ServiceRefused.
import { EventSourceParserStream } from 'eventsource-parser/stream';
import type { Options } from 'p-retry';
import pRetry from 'p-retry';
import { z } from 'zod';
import { type LogEntry, logEntrySchema } from '../../builds/progress.ts';
import { type Hints, parseJson, refusalOf, type Service, ServiceRefused, sendRequest } from './service.ts';

const submittedSchema = z.looseObject({
  requestId: z.string(),
  targetImage: z.string(),
  targetDigest: z.string().optional(),
  buildId: z.string().optional(),
  cached: z.boolean().optional(),
  warnings: z.array(z.string()).optional(),
  moved: z
    .array(
      z.looseObject({
        platform: z.string(),
        entries: z.array(z.object({ from: z.string(), to: z.string() })),
        count: z.number(),
      }),
    )
    .optional(),
  /** Absent while a build is in progress. */
  succeeded: z.boolean().optional(),
});

/** Of a mirror, `state` is what `status` is of a build. */
function readState(record: unknown): unknown {
  return record instanceof Object && 'state' in record ? { ...record, status: record.state } : record;
}

const buildFields = z.looseObject({
  buildId: z.string(),
  status: z.enum(['queued', 'running', 'succeeded', 'failed']),
  targetImage: z.string().optional(),
  creationTime: z.string().optional(),
  /** In seconds. */
  duration: z.number().optional(),
  platforms: z.array(z.string()).default([]),
  digest: z.string().optional(),
  reason: z.string().optional(),
});
const buildSchema = z.preprocess(readState, buildFields);

const pageSchema = z.object({ builds: z.array(buildSchema) });

export type Submitted = z.output<typeof submittedSchema>;
export type Build = z.output<typeof buildSchema>;

/** Whether the build has ended for good. */
function hasEnded({ status }: Build): boolean {
  return status === 'succeeded' || status === 'failed';
}

export const buildStatuses = buildFields.shape.status.options;

export interface BuildsPage {
  readonly limit: number;
  readonly status?: string | undefined;
  /** Only those older than this one. */
  readonly after?: string | undefined;
}

export interface BuildsClient {
  readonly host: string;
  submit(body: object): Promise<Submitted>;
  get(id: string): Promise<Build>;
  /** Newest first. */
  list(page: BuildsPage): Promise<readonly Build[]>;
  cancel(id: string): Promise<Build>;
  retry(id: string): Promise<Build>;
  /** The log as server-sent events; the caller reads or cancels the body. */
  openEvents(id: string, signal: AbortSignal): Promise<Response>;
  /** The log so far, as text; the caller reads or cancels the body. */
  openLog(id: string): Promise<Response>;
  logUrl(id: string): URL;
}

const HINTS: Hints = {
  401: 'set VENEER_TOKEN to an access token, or to <user>:<password>',
  403: 'set VENEER_TOKEN to a token that may do this',
  413: 'see limits.requestBody of the service',
};

export function createBuildsClient(service: Service): BuildsClient {
  const { host } = service.url;

  async function open(path: string, init?: RequestInit): Promise<Response> {
    const response = await sendRequest(service, path, init);
    if (response.ok) return response;
    throw await refusalOf(response, HINTS);
  }

  async function ask<T>(schema: z.ZodType<T>, path: string, init?: RequestInit): Promise<T> {
    const response = await open(path, init);
    const text = await response.text().catch(cause => {
      throw new ServiceRefused(`${host} closed the connection`, { cause, isTransient: true });
    });
    return parseAnswer(schema, text, host);
  }

  return {
    host,
    submit: body => ask(submittedSchema, '/v1alpha2/container', postOf(body)),
    get: id => ask(buildSchema, pathOf(id)),
    async list({ limit, status, after }) {
      const query = new URLSearchParams({ limit: `${limit}`, ...(status && { status }), ...(after && { after }) });
      return (await ask(pageSchema, `/v1alpha1/builds?${query}`)).builds;
    },
    cancel: id => ask(buildSchema, `${pathOf(id)}/cancel`, { method: 'POST' }),
    retry: id => ask(buildSchema, `${pathOf(id)}/retry`, { method: 'POST' }),
    openEvents: (id, signal) => open(`${pathOf(id)}/logs`, { signal, headers: { Accept: 'text/event-stream' } }),
    openLog: id => open(`${pathOf(id)}/logs?follow=false`, { headers: { Accept: 'text/plain' } }),
    logUrl: id => new URL(`${pathOf(id)}/logs`, service.url),
  };
}

/** Throws ServiceRefused for an invalid answer. */
export function parseAnswer<T>(schema: z.ZodType<T>, text: string, host: string): T {
  const { data, success } = schema.safeParse(parseJson(text));
  if (success) return data;
  throw new ServiceRefused(`${host} is not a Veneer service of this version`);
}

function pathOf(id: string): string {
  return `/v1alpha1/${id.startsWith('mr-') ? 'mirrors' : 'builds'}/${encodeURIComponent(id)}`;
}

function postOf(body: object): RequestInit {
  return { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
}

// Follows the log of a build to its end, over connections that break.

/** How a connection that broke, or was refused for now, is retried; progress resets the count. */
export type Patience = Pick<Options, 'retries' | 'minTimeout' | 'maxTimeout' | 'factor'>;

/** About a minute: as long as a service takes to restart. */
const PATIENCE: Patience = { retries: 10, minTimeout: 500, maxTimeout: 10_000, factor: 2 };
const MAX_EVENT_CHARACTERS = 4 * 1024 * 1024;

/** Resolves with the build once it has ended. Throws ServiceRefused, or the signal's reason. */
export async function followBuild(
  builds: BuildsClient,
  id: string,
  options: {
    /** Called once for each entry, in order. */
    readonly onEntry: (entry: LogEntry) => void;
    /** Stops following; the build continues. */
    readonly signal: AbortSignal;
    readonly patience?: Patience | undefined;
  },
): Promise<Build> {
  const { onEntry, signal, patience = PATIENCE } = options;
  let reported = 0;

  /** Reads one connection; undefined where it broke, but made progress. */
  async function readOn(): Promise<Build | undefined> {
    const before = reported;
    let seen = 0;
    for await (const { event, data } of readEvents(await builds.openEvents(id, signal), signal)) {
      const build = event === 'end' ? parseAnswer(buildSchema, data, builds.host) : undefined;
      // An interrupted build continues when the service restarts.
      if (build && hasEnded(build)) return build;
      if (event !== 'log') continue;
      seen += 1;
      // Each connection starts at the beginning of the log.
      if (seen <= reported) continue;
      reported = seen;
      onEntry(parseAnswer(logEntrySchema, data, builds.host));
    }
    if (reported > before) return undefined;
    throw new ServiceRefused(`${builds.host} closed the connection`, { isTransient: true });
  }

  for (;;) {
    const shouldRetry: Options['shouldRetry'] = ({ error }) => error instanceof ServiceRefused && error.isTransient;
    const build = await pRetry(readOn, { ...patience, signal, shouldRetry });
    if (build) return build;
  }
}

/** Ends when the connection does, for whatever reason. */
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
    // A broken body has nothing left to cancel.
    await reader.cancel().catch(() => {});
  }
}
