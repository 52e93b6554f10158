// The whole app behind a socket on a free port, asked as a client on the wire asks: paths and headers go out as they are written.
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { serve } from '@hono/node-server';
import { pino } from 'pino';
import { type App, type AppDeps, createApp } from '../../src/app/app.ts';
import { loadConfig } from '../../src/config/config.ts';

/** One for all: the schema of the configuration is made once for each. */
const NO_ENVIRONMENT = {};

export interface TestServer {
  readonly app: App;
  readonly port: number;
  /** Removed in the end; the app's data is in `data`. */
  readonly directory: string;
  /** The lines of the log. */
  readonly log: readonly string[];
  send(method: string, path: string, sent?: Sent): Promise<Answer>;
  /** Ends the app, and starts it over the same data with another configuration. */
  restart(config: Settings): Promise<TestServer>;
  close(): Promise<void>;
}

/** What the configuration file has beside the data directory. */
type Settings = Readonly<Record<string, unknown>>;

type Patience = NonNullable<AppDeps['patience']>;

export interface Sent {
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream goes out in chunks of no announced length. */
  readonly body?: Uint8Array | string | Readable;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** Its one connection is kept alive. */
export async function startServer(config: Settings = {}, patience: Patience = { retries: 0 }): Promise<TestServer> {
  return openServer(await mkdtemp(join(tmpdir(), 'veneer-server-')), config, patience);
}

async function openServer(directory: string, config: Settings, patience: Patience): Promise<TestServer> {
  const file = join(directory, 'veneer.yaml');
  await writeFile(
    file,
    JSON.stringify({ dataDir: join(directory, 'data'), builds: { backends: ['embedded'] }, ...config }),
  );
  const log: string[] = [];
  let listenHost: string | undefined;
  const app = await createApp({
    config: loadConfig({ file, env: NO_ENVIRONMENT, flags: {} }),
    log: pino({}, { write: line => void log.push(line) }),
    version: '0.0.0',
    patience,
    findListenHost: () => listenHost,
  });
  const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  const port = Number(Object(server.address()).port);
  listenHost = `127.0.0.1:${port}`;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });

  return {
    app,
    port,
    directory,
    log,
    send: createSend(port, agent),
    async restart(other) {
      await stop();
      return openServer(directory, other, patience);
    },
    async close() {
      await stop();
      await rm(directory, { recursive: true });
    },
  };

  async function stop(): Promise<void> {
    agent.destroy();
    await new Promise(resolve => server.close(resolve));
    await app.close();
  }
}

/** Paths and headers go out as they are written, over the connections of the agent. `always` goes with each request. */
export function createSend(port: number, agent: Agent, always: Sent['headers'] = {}): TestServer['send'] {
  return async (method, path, { headers = {}, body } = {}) => {
    const isStream = body instanceof Readable;
    const length = isStream || body === undefined ? {} : { 'Content-Length': `${Buffer.byteLength(body)}` };
    const all = { ...length, ...always, ...headers };
    const sent = request({ port, host: '127.0.0.1', method, path, headers: all, agent });
    // After an answer, a body that nobody reads any more breaks.
    sent.on('error', () => {});
    if (isStream) body.pipe(sent);
    else sent.end(body);
    const [response]: IncomingMessage[] = await once(sent, 'response');
    if (!response) throw new Error('no response');
    return { status: response.statusCode ?? 0, headers: response.headers, body: await buffer(response) };
  };
}

/** The code of the first error of an answer. */
export function codeOf({ body }: Pick<Answer, 'body'>): unknown {
  return JSON.parse(body.toString()).errors[0].code;
}
