// A client on the wire: the bytes that it sends, in its order, and a pull of what it is told to pull.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';
import { serve } from '@hono/node-server';
import type { ContentDescriptor } from '../../../src/oci/descriptor.ts';
import { parseDigest } from '../../../src/oci/digest.ts';
import { type ImageConfig, parseImageConfig } from '../../../src/oci/image-config.ts';
import { isIndexType, isManifestType } from '../../../src/oci/media-type.ts';
import { checkImage } from '../../support/oracle.ts';
import type { TestApi } from '../api.ts';

interface PulledImage {
  readonly config: ImageConfig['config'];
  /** Digests, from the lowest. */
  readonly layers: readonly string[];
}

export interface Wire {
  /** `headers` are names and values in turn, after those that the client's library adds. */
  send(
    method: string,
    path: string,
    body?: string,
    headers?: readonly string[],
  ): Promise<{ status: number; body: string }>;
  /** What the name points to. */
  head(image: string): Promise<ContentDescriptor>;
  /** All images of the name, with every digest, size and diffID checked. */
  pull(image: string): Promise<readonly PulledImage[]>;
  close(): Promise<void>;
}

/** Serves the app on a port, and asks it as Java's HTTP client does. */
export async function openWire({ app }: TestApi): Promise<Wire> {
  const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  const host = `127.0.0.1:${Object(server.address()).port}`;

  async function send(method: string, path: string, body = '', headers: readonly string[] = []) {
    const own = [
      'Content-Length',
      `${Buffer.byteLength(body)}`,
      'Host',
      host,
      'User-Agent',
      'Java-http-client/17.0.15',
    ];
    const all = [...own, 'Content-Type', 'application/json', ...headers];
    const sent = request(`http://${host}${path}`, { method, headers: all, setDefaultHeaders: false }).end(body);
    const [response]: IncomingMessage[] = await once(sent, 'response');
    if (!response) throw new Error('no response');
    return { status: response.statusCode ?? 0, body: await text(response) };
  }

  async function head(image: string): Promise<ContentDescriptor> {
    const [name, reference] = splitName(image);
    const { headers } = await fetch(`http://${host}/v2/${name}/manifests/${reference}`, { method: 'HEAD' });
    return {
      mediaType: headers.get('content-type') ?? '',
      digest: parseDigest(headers.get('docker-content-digest') ?? ''),
      size: Number(headers.get('content-length')),
    };
  }

  return {
    send,
    head,
    async pull(image) {
      const [name] = splitName(image);
      const read = async ({ mediaType, digest }: ContentDescriptor) => {
        const kind = isIndexType(mediaType) || isManifestType(mediaType) ? 'manifests' : 'blobs';
        return (await fetch(`http://${host}/v2/${name}/${kind}/${digest}`)).bytes();
      };
      const images = await checkImage(await head(image), read);
      return Promise.all(
        images.map(async ({ config, layers }) => ({
          config: parseImageConfig(await read(config)).config,
          layers: layers.map(({ digest }) => digest),
        })),
      );
    },
    async close() {
      await new Promise(resolve => server.close(resolve));
    },
  };

  /** The path below /v2/ and the tag or digest of an image that was named after this server. */
  function splitName(image: string): readonly [name: string, reference: string] {
    const [, named, name = '', reference = ''] = /^([^/]+)\/([^:@]+)[:@](.+)$/.exec(image) ?? [];
    if (named !== host) throw new Error(`${image} is not at ${host}`);
    return [name, reference];
  }
}
