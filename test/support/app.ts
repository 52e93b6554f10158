// The whole app in process over a real registry, asked as clients ask.
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { serve } from '@hono/node-server';
import { pino } from 'pino';
import { pack } from 'tar-stream';
import { z } from 'zod';
import { type App, type AppDeps, createApp } from '../../src/app/app.ts';
import { loadConfig } from '../../src/config/config.ts';
import { createConnections } from '../../src/http/middleware/connections.ts';
import type { ContentDescriptor } from '../../src/oci/descriptor.ts';
import { parseDigest } from '../../src/oci/digest.ts';
import { isIndexType, isManifestType } from '../../src/oci/media-type.ts';
import { type GeneratedImage, generateImage, type ImageOptions } from './images.ts';
import { expectDescribed } from './openapi.ts';
import { type RegistryOptions, startRegistry, type TestRegistry } from './registry.ts';

/** One for all: the schema of the configuration is made once for each. */
const NO_ENVIRONMENT = {};

export const HOST = '127.0.0.1:8080';
export const PLATFORMS = ['linux/amd64', 'linux/arm64', 'linux/arm/v7'];

export interface TestAppOptions {
  /** Added to the configuration file. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly registry?: RegistryOptions;
  /** Of the registry's entry as `lab`. */
  readonly credentials?: { readonly username: string; readonly password: string };
  readonly now?: () => Date;
  readonly uptimeMs?: () => number;
  readonly everySweepMs?: number;
  /** Default: nothing is tried again. */
  readonly patience?: AppDeps['patience'];
  readonly lookEveryMs?: AppDeps['checkEveryMs'];
  readonly environment?: AppDeps['environment'];
}

export interface TestApp {
  /** An upstream under its own host and as `lab`. */
  readonly registry: TestRegistry;
  /** Removed in the end; the app's data is in `data`. */
  readonly directory: string;
  /** The lines of the log. */
  readonly log: readonly string[];
  /** `<registry>/library/app:1`, which putImage fills. */
  readonly image: string;
  putImage(options?: Partial<ImageOptions>): GeneratedImage;
  /** A body that is neither text nor a stream is sent as JSON. */
  request(path: string, init?: RequestOptions): Promise<Response>;
  /** What a reference points to, by HEAD. */
  head(name: string, reference: string): Promise<ContentDescriptor>;
  /** A manifest or blob by its digest. Throws unless it is there. */
  read(name: string, descriptor: ContentDescriptor): Promise<Uint8Array>;
  /** Asks for a token for the image; throws unless it is given. `name` is what to pull. */
  submit(body?: object): Promise<Submitted>;
  /** Ends the app and starts another, over the data in `dataDir`. */
  restart(dataDir?: string): Promise<void>;
  /** Ends the app and starts another over the same data, with this added to its configuration in place of what was. */
  configure(config: Readonly<Record<string, unknown>>): Promise<void>;
  /** Writes the configuration file with this added in place of what was, and leaves the app as it is. */
  writeConfig(config: Readonly<Record<string, unknown>>): Promise<void>;
  /** As SIGHUP does. */
  reloadRules(): Promise<void>;
  /** Serves the app over a socket, as the process does. */
  listen(): Promise<Listening>;
  close(): Promise<void>;
}

interface Listening extends AsyncDisposable {
  /** 127.0.0.1 with a port. */
  readonly host: string;
  /** How many requests were answered past the routes. */
  readonly answered: number;
  /** How many of them were known by their heads. */
  readonly repeated: number;
}

interface RequestOptions {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** That it comes from; default: none, as in process. */
  readonly address?: string;
}

interface Submitted {
  readonly token: string;
  readonly name: string;
  readonly targetDigest: string;
}

const answerSchema = z.object({ requestId: z.string(), targetDigest: z.string(), targetImage: z.string() });

export async function startApp(options: TestAppOptions = {}): Promise<TestApp> {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-app-'));
  const registry = await startRegistry(options.registry);
  const log: string[] = [];
  const image = `${registry.host}/library/app:1`;
  const file = join(directory, 'veneer.yaml');
  let added = options.config;
  let app = await open('data');

  async function writeConfig(dataDir: string): Promise<void> {
    const upstream = { url: registry.url, credentials: options.credentials };
    const upstreams = { lab: upstream, [registry.host]: { url: registry.url } };
    // What the machine has must not decide what a test does.
    const builds = { backends: ['embedded'] };
    await writeFile(file, JSON.stringify({ dataDir: join(directory, dataDir), upstreams, builds, ...added }));
  }

  async function open(dataDir: string): Promise<App> {
    await writeConfig(dataDir);
    const sink = new Writable({ write: (chunk, _encoding, done) => done(void log.push(String(chunk))) });
    const { now, uptimeMs, everySweepMs, patience = { retries: 0 }, lookEveryMs, environment } = options;
    const read = () => loadConfig({ file, env: NO_ENVIRONMENT, flags: {} });
    return createApp({
      ...{ config: read(), log: pino(sink), version: '0.0.0', patience },
      ...{
        reread: { path: file, read },
        checkEveryMs: lookEveryMs,
        everySweepMs,
        ...(now && { now }),
        ...(uptimeMs && { uptimeMs }),
        ...(environment && { environment }),
      },
    });
  }

  async function request(path: string, { method = 'GET', headers = {}, body, address }: RequestOptions = {}) {
    const isRaw = body === undefined || typeof body === 'string' || body instanceof ReadableStream;
    const encoded = isRaw ? body : JSON.stringify(body);
    const init = {
      method,
      headers: { Host: HOST, ...(!isRaw && { 'Content-Type': 'application/json' }), ...headers },
      ...(encoded && { body: encoded, duplex: 'half' as const }),
    };
    const socket = address === undefined ? {} : { incoming: { socket: { remoteAddress: address } } };
    const response = await app.fetch(new Request(`http://${HOST}${path}`, init), socket);
    await expectDescribed(method, path, response);
    return response;
  }

  return {
    registry,
    directory,
    log,
    image,
    request,
    putImage: imageOptions => putImage(registry, imageOptions),
    async head(name, reference) {
      const { headers } = await request(`/v2/${name}/manifests/${reference}`, { method: 'HEAD' });
      return {
        mediaType: headers.get('content-type') ?? '',
        digest: parseDigest(headers.get('docker-content-digest') ?? ''),
        size: Number(headers.get('content-length')),
      };
    },
    async read(name, { mediaType, digest }) {
      const kind = isIndexType(mediaType) || isManifestType(mediaType) ? 'manifests' : 'blobs';
      const response = await request(`/v2/${name}/${kind}/${digest}`);
      if (response.status !== 200) throw new Error(`${digest}: ${response.status} ${await response.text()}`);
      return response.bytes();
    },
    async submit(body) {
      const response = await request('/v1alpha2/container', {
        method: 'POST',
        body: { containerImage: image, ...body },
      });
      if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
      const { requestId, targetDigest, targetImage } = answerSchema.parse(await response.json());
      const name = targetImage.slice(HOST.length + 1).replace(/[:@].*$/, '');
      return { token: requestId, name, targetDigest };
    },
    async restart(dataDir = 'data') {
      await app.close();
      app = await open(dataDir);
    },
    async configure(config) {
      await app.close();
      added = config;
      app = await open('data');
    },
    async writeConfig(config) {
      added = config;
      await writeConfig('data');
    },
    reloadRules: () => app.reloadRules(),
    async listen() {
      const { fetch, ready } = app;
      const server = serve({ fetch, hostname: '127.0.0.1', port: 0 });
      if (!(server instanceof Server)) throw new TypeError('this server is not of node:http');
      let answered = 0;
      let repeated = 0;
      createConnections({ limits: loadConfig({ file, env: {}, flags: {} }).limits }).guard(
        server,
        ready && {
          async answer(...request) {
            const isAnswered = await ready.answer(...request);
            if (isAnswered) answered += 1;
            return isAnswered;
          },
          repeat(...request) {
            const answering = ready.repeat(...request);
            if (!answering) return false;
            return answering.then(isRepeated => {
              if (isRepeated) repeated += 1;
              return isRepeated;
            });
          },
        },
      );
      await once(server, 'listening');
      const address = server.address();
      return {
        host: `127.0.0.1:${typeof address === 'object' && address?.port}`,
        get answered() {
          return answered + repeated;
        },
        get repeated() {
          return repeated;
        },
        async [Symbol.asyncDispose]() {
          server.closeAllConnections();
          await new Promise(resolve => server.close(resolve));
        },
      };
    },
    async close() {
      await app.close();
      await registry.close();
      await rm(directory, { recursive: true });
    },
  };
}

function putImage(registry: TestRegistry, options: Partial<ImageOptions> = {}): GeneratedImage {
  const generated = generateImage({ seed: 1, platforms: PLATFORMS, layers: 2, family: 'oci', ...options });
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

/** A layer with one file, packed as gzip. */
export async function makeLayer(name: string, content: string): Promise<Buffer> {
  return gzipSync(await makeTar(name, content));
}

/** The location of a layer that comes with its request. */
export function dataUrl(layer: Buffer): string {
  return `data:${layer.toString('base64')}`;
}
