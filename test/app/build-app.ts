// The whole app with the embedded builder, asked for builds, whose bases a test may hold back for as long as it likes.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { z } from 'zod';
import { type ImageConfig, parseImageConfig } from '../../src/oci/image-config.ts';
import { startApp, type TestApp, type TestAppOptions } from '../support/app.ts';
import type { GeneratedImage } from '../support/images.ts';
import { checkImage } from '../support/oracle.ts';

const answerSchema = z.object({
  requestId: z.string(),
  containerToken: z.string().optional(),
  targetImage: z.string(),
  targetDigest: z.string().optional(),
  expiration: z.string().optional(),
  containerImage: z.string(),
  buildId: z.string(),
  cached: z.boolean(),
  freeze: z.boolean(),
  mirror: z.boolean(),
  succeeded: z.boolean().optional(),
});

const recordSchema = z.looseObject({
  buildId: z.string(),
  status: z.string(),
  targetImage: z.string(),
  reason: z.string().optional(),
  digest: z.string().optional(),
});

type Answer = z.infer<typeof answerSchema>;
type Record = z.infer<typeof recordSchema>;

export interface BuildApp extends TestApp {
  /** The image that putImage fills, as bases are named; its layers are no tars that could be read. */
  readonly base: string;
  /** Asks for a build; throws unless it is taken. Without a file it is of `FROM <base>`. */
  build(body?: object): Promise<Answer>;
  /** The answer to a request that is refused: its status and message. */
  refused(body: object): Promise<readonly [status: number, message: string]>;
  record(id: string): Promise<Record>;
  /** The record, once the build has ended. */
  ended(id: string): Promise<Record>;
  /** What the status of the request's image is. */
  status(answer: Answer): Promise<object>;
  /** All images of a name, with every digest, size and diffID checked: what runs each, by platform. */
  pull(image: string): Promise<ReadonlyMap<string, ImageConfig>>;
  /** Blobs of the base are held back until it is called. */
  holdBase(): { readonly asked: Promise<void>; release(): void };
}

export const base64 = (text: string) => Buffer.from(text).toString('base64');

export async function startBuildApp(options: TestAppOptions = {}): Promise<BuildApp> {
  const app = await startApp(options);
  const image = app.putImage();
  const base = app.image;

  async function record(id: string): Promise<Record> {
    const path = id.startsWith('mr-') ? 'mirrors' : 'builds';
    return recordSchema.parse(await (await app.request(`/v1alpha1/${path}/${id}`)).json());
  }

  function submit(body: object): Promise<Response> {
    return app.request('/v1alpha2/container', { method: 'POST', body });
  }

  return {
    ...app,
    base,
    record,
    async build(body = {}) {
      const source = 'containerImage' in body ? {} : { containerFile: base64(`FROM ${base}\nENV BUILT=yes\n`) };
      const response = await submit({ ...source, ...body });
      if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
      return answerSchema.parse(await response.json());
    },
    async refused(body) {
      const response = await submit(body);
      return [response.status, String(Object(await response.json()).message)];
    },
    async ended(id) {
      const path = id.startsWith('mr-') ? 'mirrors' : 'builds';
      await (await app.request(`/v1alpha1/${path}/${id}/logs`)).text();
      return record(id);
    },
    async status({ requestId }) {
      return Object(await (await app.request(`/v1alpha2/container/${requestId}/status`)).json());
    },
    async pull(name) {
      const [, repository = '', reference = ''] = /^[^/]+\/([^:@]+)[:@](.+)$/.exec(name) ?? [];
      const images = await checkImage(await app.head(repository, reference), part => app.read(repository, part));
      const configs = images.map(async ({ config }) => parseImageConfig(await app.read(repository, config)));
      return new Map((await Promise.all(configs)).map(config => [platformOf(config), config]));
    },
    holdBase: () => holdBlobs(app, image),
  };
}

function platformOf({ os, architecture, variant }: ImageConfig): string {
  return [os, architecture, variant].filter(Boolean).join('/');
}

function holdBlobs({ registry }: TestApp, { content }: GeneratedImage) {
  const asked = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  registry.intercept(({ method, url = '' }: IncomingMessage, response: ServerResponse) => {
    const [, digest = ''] = /\/blobs\/(.+)$/.exec(url) ?? [];
    const blob = content.get(digest);
    if (method !== 'GET' || !blob) return false;
    asked.resolve();
    void released.promise.then(() => {
      response.writeHead(200, { 'Content-Length': blob.raw.byteLength }).end(blob.raw);
    });
    return true;
  });
  return { asked: asked.promise, release: released.resolve };
}
