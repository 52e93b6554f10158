// A service that speaks the API of builds as docs/api.md has it, with a real registry beside: what it answers, a test says.
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { type HttpBindings, serve } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { type Context, Hono } from 'hono';
import { z } from 'zod';
import type { LogEntry } from '../../src/builds/progress.ts';
import type { ServiceCommandDeps } from '../../src/cli/service-command.ts';
import { startServer, type TestServer } from '../support/server.ts';

export const BUILD_ID = 'bd-0123456789abcdef_1';
export const DIGEST = `sha256:${'ab'.repeat(32)}`;

/** One connection that follows the log: what it gets, and how it ends. */
interface LogConnection {
  readonly entries: readonly LogEntry[];
  readonly ends: 'end' | 'cut' | 'close' | 'hang';
}

type Env = { Bindings: HttpBindings };

interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly authorization: string | undefined;
}

export interface BuildService {
  readonly url: URL;
  readonly registry: TestServer;
  readonly requests: SeenRequest[];
  /** The body of each submit. */
  readonly submitted: unknown[];
  /** What a submit is answered with, over what every answer has. */
  answer: object;
  /** What every submit, and every request for a build, is answered with instead. */
  refusal: (() => Response) | undefined;
  /** The build, over what every build has. */
  build: object;
  /** Of the uploads' chunks, the one whose connection breaks before or after it was taken. */
  breakChunk: { readonly at: number; readonly when: 'before' | 'after' } | undefined;
  /** The first is for the first connection; the last is for all that follow. */
  log: readonly LogConnection[];
  close(): Promise<void>;
}

export async function startBuildService(registryConfig: Readonly<Record<string, unknown>> = {}): Promise<BuildService> {
  const registry = await startServer(registryConfig);
  const app = new Hono<Env>();
  const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  const service: BuildService = {
    url: new URL(`http://127.0.0.1:${Object(server.address()).port}`),
    registry,
    requests: [],
    submitted: [],
    answer: {},
    refusal: undefined,
    build: {},
    breakChunk: undefined,
    log: [{ entries: [], ends: 'end' }],
    async close() {
      const closed = new Promise(resolve => server.close(resolve));
      if ('closeAllConnections' in server) server.closeAllConnections();
      await closed;
      await registry.close();
    },
  };
  addRoutes(app, service);
  return service;
}

/** A command that speaks to the service, as nobody's terminal. Nothing waits before it is tried again. */
export function depsOf(service: Pick<BuildService, 'url'>, token?: string): ServiceCommandDeps {
  return {
    findService: () => ({ url: service.url, token }),
    stdin: Readable.from([]),
    terminal: undefined,
    listenForInterrupt: () => new AbortController().signal,
    patience: { retries: 2, minTimeout: 0, maxTimeout: 0 },
  };
}

function addRoutes(app: Hono<Env>, service: BuildService): void {
  let connections = 0;
  let chunks = 0;
  const buildOf = () => ({
    buildId: BUILD_ID,
    status: 'succeeded',
    targetImage: 'local/builds:0123456789abcdef',
    creationTime: '2030-01-01T00:00:00Z',
    duration: 12.5,
    platforms: ['linux/amd64', 'linux/arm64'],
    digest: DIGEST,
    ...service.build,
  });

  app.use(async (c, next) => {
    const { method, path } = c.req;
    service.requests.push({ method, path, query: c.req.query(), authorization: c.req.header('Authorization') });
    const refusal = path.startsWith('/v1alpha') ? service.refusal?.() : undefined;
    if (refusal) return refusal;
    return next();
  });
  app.patch('/v2/*', async (c, next) => {
    chunks += 1;
    const { at, when } = service.breakChunk ?? {};
    if (chunks !== at) return next();
    if (when === 'after') await service.registry.app.fetch(c.req.raw, c.env);
    c.env.outgoing.destroy();
    return RESPONSE_ALREADY_SENT;
  });
  app.all('/v2/*', c => service.registry.app.fetch(c.req.raw, c.env));
  app.post('/v1alpha2/container', async c => {
    service.submitted.push(await c.req.json());
    const targetImage = `${service.url.host}/wt/0123456789ab/local/builds:1`;
    return c.json({ requestId: '0123456789ab', targetImage, freeze: false, mirror: false, ...service.answer });
  });
  app.get('/v1alpha1/builds', c => c.json({ builds: [buildOf()] }));
  app.get('/v1alpha1/builds/:id', c => c.json(buildOf()));
  app.post('/v1alpha1/:kind/:id/cancel', c => c.json(buildOf()));
  app.post('/v1alpha1/builds/:id/retry', c => c.json({ ...buildOf(), buildId: 'bd-0123456789abcdef_2' }));

  const sendLog = (c: Context<Env>) => {
    if (c.req.query('follow') === 'false') return c.text('one line\n\u001b[2Janother\n');
    const connection = service.log[Math.min(connections, service.log.length - 1)];
    connections += 1;
    send(c.env.outgoing, connection ?? { entries: [], ends: 'end' }, buildOf());
    return RESPONSE_ALREADY_SENT;
  };
  app.get('/v1alpha1/builds/:id/logs', sendLog);
  app.get('/v1alpha1/mirrors/:id/logs', sendLog);
}

function send(outgoing: ServerResponse, { entries, ends }: LogConnection, build: object): void {
  const encode = (event: string, data: object) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
  const text = [': here it comes\n\n', ...entries.map(entry => encode('log', entry))].join('');
  outgoing.writeHead(200, { 'Content-Type': 'text/event-stream' });
  // What was written is on its way before the connection breaks.
  outgoing.write(text, () => {
    if (ends === 'cut') outgoing.destroy();
    if (ends === 'close') outgoing.end();
    if (ends === 'end') outgoing.end(encode('end', build));
  });
}

/** The fields of a submit that hold bytes. */
export const sentContextSchema = z.object({
  containerFile: z.base64(),
  buildContext: z.object({ location: z.string(), gzipDigest: z.string(), gzipSize: z.number() }),
});
