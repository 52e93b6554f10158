// Build contexts for the pods that build them: the address itself is the credential, as a token in a path is.
import { Hono } from 'hono';
import { CONTEXTS_PATH, type ContextOffers } from '../../builds/backends/kubernetes/context-offers.ts';
import { ApiError } from '../../submit/errors.ts';

export function createContextsApi(offers: ContextOffers): Hono {
  const app = new Hono();
  app.get(`${CONTEXTS_PATH}:name`, c => {
    const { expires = '', signature = '' } = c.req.query();
    const context = offers.open(c.req.param('name'), { expires, signature });
    if (!context) throw new ApiError(404, 'this build context is unknown or has expired');
    const headers = { 'Content-Type': 'application/gzip', 'Cache-Control': 'no-store' };
    // A HEAD gets no body: nothing is read.
    if (c.req.method === 'HEAD') return c.body(null, 200, headers);
    return c.body(ReadableStream.from(context), 200, headers);
  });
  return app;
}
