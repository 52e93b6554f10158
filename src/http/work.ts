// The work of one request of the API: it ends with its client, and has so much time and so many bytes to unpack.
import type { Context } from 'hono';
import { createWork, type Work } from '../augment/budget.ts';
import { ApiError } from './api-error.ts';

interface WorkLimits {
  readonly requestTimeMs: number;
  /** Of all layers of a request together. */
  readonly unpackedRequestBytes: number;
}

export type StartWork = (c: Context) => Work;

/** Its time begins now. */
export function createStartWork({ requestTimeMs, unpackedRequestBytes }: WorkLimits): StartWork {
  return c => {
    const timeUp = new AbortController();
    const timer = setTimeout(() => {
      timeUp.abort(
        new ApiError(504, `the request took longer than ${requestTimeMs / 1000} s (limits.requestTime in veneer.yaml)`),
      );
    }, requestTimeMs);
    timer.unref();
    return createWork(AbortSignal.any([c.req.raw.signal, timeUp.signal]), unpackedRequestBytes);
  };
}
