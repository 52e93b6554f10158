// The augment API: a request becomes a token, and the token names an image to pull.
import { type Context, Hono } from 'hono';
import type { Builds } from '../../builds/builds.ts';
import type { Origins } from '../../pull/origin.ts';
import type { TokenLedger } from '../../pull/tokens/ledger.ts';
import { ApiError } from '../../submit/errors.ts';
import type { Submission, Submit } from '../../submit/submit.ts';
import type { FindToken } from '../distribution/admission.ts';
import { requesterOf } from '../middleware/authentication.ts';
import { buildLogPath } from './build-response.ts';
import { type BodyLimits, withJson } from './json-body.ts';
import { maySeeToken } from './ownership.ts';
import { imageAddress, publicHost } from './public-host.ts';
import { describeTokenResponse, recordResponse, statusResponse, submitResponse, type View } from './submit-response.ts';
import { parseSubmit, type SubmitLimits } from './submit-schema.ts';

export function createAugmentApi(deps: {
  readonly submit: Submit;
  readonly builds: Pick<Builds, 'find'>;
  readonly ledger: Pick<TokenLedger, 'revoke'>;
  readonly findToken: FindToken;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
  readonly body: BodyLimits;
  readonly limits: SubmitLimits;
}): Hono {
  const { submit, builds, ledger, findToken, origins, publicUrl, body: bodyLimits, limits } = deps;
  const app = new Hono();

  function answer(c: Context, version: 1 | 2): Promise<Response> {
    return withJson(c, bodyLimits, async body => {
      const view = viewOf(c);
      const submission = await submit(requesterOf(c), parseSubmit(body, limits), c.req.raw.signal);
      return c.json(submitResponse(submission, view, version));
    });
  }

  function viewOf(c: Context): View {
    const host = publicHost(publicUrl, c.req.header('Host'));
    return { host, addressOf: image => imageAddress(image, origins, host) };
  }

  async function findSubmission(c: Context, options?: { readonly isOwnerRequired: boolean }): Promise<Submission> {
    const record = await findToken(c, c.req.param('id') ?? '');
    if (!record || !maySeeToken(c, record, options)) throw new ApiError(404, 'this token is unknown or has expired');
    const build = record.buildId === undefined ? undefined : await builds.find(record.buildId);
    return { record, build };
  }

  app.post('/v1alpha2/container', c => answer(c, 2));
  app.post('/container-token', c => answer(c, 1));
  app.get('/v1alpha2/container/:id', async c => c.json(recordResponse(await findSubmission(c), viewOf(c))));
  app.get('/v1alpha2/container/:id/status', async c =>
    c.json(statusResponse(await findSubmission(c), logAddress(publicUrl, c))),
  );
  app.get('/container-token/:id', async c => c.json(describeTokenResponse(await findSubmission(c), viewOf(c))));
  app.delete('/container-token/:id', async c => {
    const submission = await findSubmission(c, { isOwnerRequired: true });
    await ledger.revoke(submission.record.id);
    return c.json(describeTokenResponse(submission, viewOf(c)));
  });
  return app;
}

/** Where people find the log of a build. */
function logAddress(publicUrl: string | undefined, c: Context): (id: string) => string {
  const base = publicUrl ?? `${new URL(c.req.url).protocol}//${publicHost(publicUrl, c.req.header('Host'))}`;
  return id => new URL(buildLogPath(id), base).href;
}
