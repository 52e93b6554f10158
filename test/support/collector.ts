// A collector of OpenTelemetry in process, as the exporter talks to one: OTLP over HTTP, in JSON.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { json } from 'node:stream/consumers';
import { z } from 'zod';

const attributesSchema = z
  .array(z.object({ key: z.string(), value: z.record(z.string(), z.unknown()) }))
  .transform(list => Object.fromEntries(list.map(({ key, value }) => [key, Object.values(value)[0]])));

const spanSchema = z.object({
  traceId: z.string(),
  spanId: z.string(),
  parentSpanId: z.string().optional(),
  name: z.string(),
  /** 1: internal, 2: server, 3: client. */
  kind: z.number(),
  startTimeUnixNano: z.string(),
  endTimeUnixNano: z.string(),
  attributes: attributesSchema,
  /** 2: an error. */
  status: z.object({ code: z.number() }),
});

const requestSchema = z.object({
  resourceSpans: z.array(
    z.object({
      resource: z.object({ attributes: attributesSchema }),
      scopeSpans: z.array(z.object({ spans: z.array(spanSchema) })),
    }),
  ),
});

export type CollectedSpan = z.infer<typeof spanSchema>;

export interface Collector extends AsyncDisposable {
  readonly url: string;
  readonly spans: readonly CollectedSpan[];
  /** Of all that sent spans. */
  readonly resources: readonly Readonly<Record<string, unknown>>[];
  /** Headers and paths of what was sent. */
  readonly posts: readonly string[];
}

export async function startCollector(): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const resources: Record<string, unknown>[] = [];
  const posts: string[] = [];
  const server = createServer(async (request, response) => {
    posts.push(`${request.method} ${request.url} ${request.headers['content-type']} ${request.headers['x-key']}`);
    const { resourceSpans } = requestSchema.parse(await json(request));
    for (const { resource, scopeSpans } of resourceSpans) {
      resources.push(resource.attributes);
      spans.push(...scopeSpans.flatMap(scope => scope.spans));
    }
    response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === 'object' && address?.port}`,
    spans,
    resources,
    posts,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}
