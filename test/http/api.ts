// A real app over a real registry, asked as clients of the API ask.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pino } from 'pino';
import { pack } from 'tar-stream';
import { type App, createApp } from '../../src/app/app.ts';
import { loadConfig } from '../../src/config/config.ts';
import { type GeneratedImage, generateImage, type ImageOptions } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';

/** One for all: the schema of the configuration is made once for each. */
const NO_ENVIRONMENT = {};

export const HOST = '127.0.0.1:8080';

export interface TestApi {
  readonly app: App;
  readonly registry: TestRegistry;
  /** `<registry>/library/app:1`, which putImage fills. */
  readonly image: string;
  /** The lines of the log. */
  readonly log: readonly string[];
  putImage(options?: Partial<ImageOptions>): GeneratedImage;
  request(method: string, path: string): Promise<Response>;
  /** A string is sent as it is, all else as JSON. */
  post(path: string, body: unknown): Promise<Response>;
  close(): Promise<void>;
}

/** The registry is an upstream under its own host and as `lab`; `config` is added to the configuration file. */
export async function startApi(config: Readonly<Record<string, unknown>> = {}): Promise<TestApi> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-api-'));
  const registry = await startRegistry();
  const file = join(directory, 'veneer.yaml');
  const upstreams = { lab: { url: registry.url }, [registry.host]: { url: registry.url } };
  // What the machine has must not decide what a test does.
  const builds = { backends: ['embedded'] };
  await writeFile(file, JSON.stringify({ dataDir: join(directory, 'data'), upstreams, builds, ...config }));
  const log: string[] = [];
  const sink = new Writable({ write: (chunk, _encoding, done) => done(void log.push(String(chunk))) });
  const app = await createApp({
    config: loadConfig({ file, env: NO_ENVIRONMENT, flags: {} }),
    log: pino(sink),
    version: '0.0.0',
  });

  async function send(method: string, path: string, body?: string): Promise<Response> {
    const headers = { Host: HOST, 'Content-Type': 'application/json' };
    return app.fetch(new Request(`http://${HOST}${path}`, { method, headers, ...(body !== undefined && { body }) }));
  }

  return {
    app,
    registry,
    image: `${registry.host}/library/app:1`,
    log,
    putImage: options => putImage(registry, options),
    request: (method, path) => send(method, path),
    post: (path, body) => send('POST', path, typeof body === 'string' ? body : JSON.stringify(body)),
    async close() {
      await app.close();
      await registry.close();
      await rm(directory, { recursive: true });
    },
  };
}

function putImage(registry: TestRegistry, options: Partial<ImageOptions> = {}): GeneratedImage {
  const platforms = ['linux/amd64', 'linux/arm64'];
  const generated = generateImage({ seed: 1, platforms, layers: 1, family: 'oci', ...options });
  const contents = [...generated.content].map(([digest, content]) => ({
    ...content,
    ...(digest === generated.root.digest && { tags: ['1'] }),
  }));
  registry.put('library/app', contents);
  return generated;
}

/** A tar with one file. */
export async function makeTar(name: string, content: string): Promise<Buffer> {
  const tar = pack();
  tar.entry({ name, mtime: new Date(0) }, content);
  tar.finalize();
  return buffer(tar);
}
