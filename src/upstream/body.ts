// Bodies and what the headers say of them.
import type { Dispatcher } from 'undici';
import { type Attempt, badAnswer } from './failure.ts';
import type { BlobBody } from './upstream.ts';

/** The body as other rooms take it. Throws 502 where it is encoded although we asked for the bytes as they are. */
export function openBody(response: Dispatcher.ResponseData, attempt: Attempt): BlobBody {
  const encoding = response.headers['content-encoding'] ?? 'identity';
  if (encoding !== 'identity') {
    discard(response);
    throw badAnswer(attempt, 'the body is encoded, though we asked for identity');
  }
  return { body: toWeb(response), size: contentLength(response) };
}

/** Lets go of a body that nobody will read. */
export function discard({ body }: Dispatcher.ResponseData): void {
  // A body that is destroyed before its end says so, and without a listener that ends the process.
  body.on('error', () => {}).destroy();
}

function toWeb(response: Dispatcher.ResponseData): ReadableStream<Uint8Array> {
  const chunks: AsyncIterator<Uint8Array> = response.body[Symbol.asyncIterator]();
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel() {
        discard(response);
      },
    },
    { highWaterMark: 0 },
  );
}

export function contentLength({ headers }: Dispatcher.ResponseData): number | undefined {
  const text = headers['content-length'];
  return typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** The media type alone, in lower case; empty where there is none. */
export function contentType(headers: ResponseHeaders): string {
  return [headers['content-type'] ?? []].flat()[0]?.split(';', 1)[0]?.trim().toLowerCase() ?? '';
}
