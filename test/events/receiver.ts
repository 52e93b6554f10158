// What an endpoint is to Veneer: a node server on a free port that answers as a test tells it to, and keeps what it was sent.
import { EventEmitter, once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import { z } from 'zod';
import { eventSchema, type RegistryEvent } from '../../src/events/event.ts';

interface Post {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly events: readonly RegistryEvent[];
}

export interface Receiver {
  readonly url: URL;
  readonly posts: readonly Post[];
  /** Resolves when `count` POSTs have come in. */
  arrived(count: number): Promise<void>;
}

/** `count` is 1 for the first POST. */
export type Answer = (response: ServerResponse, count: number) => void;

const envelopeSchema = z.object({ events: z.array(eventSchema) });

export const accept: Answer = response => response.writeHead(202).end();

export async function receive(answer: Answer = accept): Promise<Receiver> {
  const posts: Post[] = [];
  const arrivals = new EventEmitter();
  const server = createServer(async (request, response) => {
    posts.push(await readPost(request));
    arrivals.emit('post');
    answer(response, posts.length);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    url: new URL(`http://127.0.0.1:${address.port}/hook`),
    posts,
    async arrived(count) {
      while (posts.length < count) await once(arrivals, 'post');
    },
  };
}

async function readPost(request: IncomingMessage): Promise<Post> {
  const body = await text(request);
  const { events } = envelopeSchema.parse(JSON.parse(body));
  return { path: request.url ?? '', headers: request.headers, body, events };
}
