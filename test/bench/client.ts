// A client of registries, in this process, for loads of small requests: it keeps its connections, and reads every body to its end.
import { finished } from 'node:stream/promises';
import { Agent, type Dispatcher, request } from 'undici';
import { MANIFEST_TYPE } from './image.ts';

interface Outgoing {
  readonly method?: Dispatcher.HttpMethod;
  readonly type?: string;
  readonly body?: Uint8Array;
}

interface Answer {
  readonly status: number;
  readonly body: Uint8Array;
  /** Where Location leads. */
  readonly location: URL | undefined;
  /** Where the Link leads that has the next page. */
  readonly next: URL | undefined;
}

export interface Client {
  /** Throws for a status that is no success. */
  send(url: string | URL, outgoing?: Outgoing): Promise<Answer>;
  /** Reads a body to its end, keeps nothing of it, and gives its bytes. Throws for a status that is no success. */
  drain(url: string | URL): Promise<number>;
  close(): Promise<void>;
}

export function createClient(): Client {
  const dispatcher = new Agent();
  return {
    async send(url, { method = 'GET', type = 'application/octet-stream', body } = {}) {
      const headers = { accept: `${MANIFEST_TYPE}, */*`, ...(body && { 'content-type': type }) };
      const response = await request(url, { dispatcher, method, headers, body: body ?? null });
      const answered = await response.body.bytes();
      const { statusCode: status } = response;
      if (status >= 300) throw new Error(`${method} ${url}: ${status} ${new TextDecoder().decode(answered)}`);
      const target = (text: string | undefined) => (text === undefined ? undefined : new URL(text, url));
      const link = /^<([^>]+)>; rel="next"$/.exec(String(response.headers.link ?? ''))?.[1];
      const location = response.headers.location?.toString();
      return { status, body: answered, location: target(location), next: target(link) };
    },
    async drain(url) {
      const { statusCode: status, body } = await request(url, { dispatcher });
      let bytes = 0;
      body.on('data', (chunk: Uint8Array) => {
        bytes += chunk.byteLength;
      });
      await finished(body);
      if (status >= 300) throw new Error(`GET ${url}: ${status}`);
      return bytes;
    },
    close: () => dispatcher.close(),
  };
}
