// The augment API: a request becomes a token, and the token names an image to pull.
import { type Context, Hono } from 'hono';
import type { Builds } from '../../builds/builds.ts';
import type { Origins } from '../../pull/origin.ts';
import type { TokenLedger } from '../../pull/tokens/ledger.ts';
import type { Scans } from '../../scans/scans.ts';
import { ApiError } from '../../submit/errors.ts';
import type { Submission, Submit } from '../../submit/submit.ts';
import { type FindToken, UNKNOWN_TOKEN } from '../distribution/admission.ts';
import { requesterOf } from '../middleware/authentication.ts';
import { noteAction, shownToken } from '../middleware/request-log.ts';
import { buildLogPath } from './build-response.ts';
import { maySeeToken } from './builds-api.ts';
import { type BodyLimits, withJson } from './json-body.ts';
import { imageAddress, publicHost } from './public-host.ts';
import type { StatusWait } from './status-wait.ts';
import {
  describeTokenResponse,
  recordResponse,
  statusOf,
  statusResponse,
  submitResponse,
  type View,
} from './submit-response.ts';
import { createParseSubmit, type SubmitLimits } from './submit-schema.ts';

interface AugmentApiDeps {
  readonly submit: Submit;
  readonly builds: Pick<Builds, 'find' | 'wait'>;
  readonly statusWait: StatusWait;
  readonly ledger: Pick<TokenLedger, 'revoke' | 'find'>;
  readonly scans: Pick<Scans, 'find' | 'wait'>;
  readonly findSubmission: FindSubmission;
  readonly origins: Origins;
  readonly publicUrl: string | undefined;
  readonly body: BodyLimits;
  readonly limits: SubmitLimits;
}

/** The submission of the token in the path. Throws ApiError where there is none. */
type FindSubmission = (c: Context) => Promise<Submission>;

interface FindSubmissionDeps extends Pick<AugmentApiDeps, 'builds' | 'scans'> {
  readonly findToken: FindToken;
}

export function createFindSubmission({ builds, scans, findToken }: FindSubmissionDeps): FindSubmission {
  return async c => {
    const record = await findToken(c, c.req.param('id') ?? '');
    if (!record || !maySeeToken(c, record)) throw new ApiError(404, UNKNOWN_TOKEN);
    const build = record.buildId === undefined ? undefined : await builds.find(record.buildId);
    const scan = record.scan && (await scans.find(record.scan.id));
    return { record, build, scan };
  };
}

export function createAugmentApi(deps: AugmentApiDeps): Hono {
  const {
    submit,
    builds,
    scans,
    statusWait,
    ledger,
    findSubmission,
    origins,
    publicUrl,
    body: bodyLimits,
    limits,
  } = deps;
  const app = new Hono();
  const parseSubmit = createParseSubmit(limits);

  function answer(c: Context, version: 1 | 2): Promise<Response> {
    return withJson(c, bodyLimits, async body => {
      const view = viewOf(c);
      const submission = await submit(requesterOf(c), parseSubmit(body), c.req.raw.signal);
      noteSubmission(c, submission);
      return c.json(submitResponse(submission, view, version));
    });
  }

  function viewOf(c: Context): View {
    const host = publicHost(publicUrl, c.req.header('Host'));
    return { host, addressOf: image => imageAddress(image, origins, host) };
  }

  /** Waits until the image is ready, at most as long as a status request may. */
  async function awaitSubmission(c: Context): Promise<Submission> {
    const submission = await findSubmission(c);
    const { id, buildId, scan } = submission.record;
    if (statusOf(submission) === 'DONE') return submission;
    await statusWait(c, async until => {
      if (buildId !== undefined) await builds.wait(buildId, until);
      if (scan?.mode === 'required') await scans.wait(scan.id, until);
    });
    const record = await ledger.find(id);
    if (!record) return submission;
    const build = buildId === undefined ? undefined : await builds.find(buildId);
    return { record, build, scan: scan && (await scans.find(scan.id)) };
  }

  app.post('/v1alpha2/container', c => answer(c, 2));
  app.post('/container-token', c => answer(c, 1));
  app.get('/v1alpha2/container/:id', async c => c.json(recordResponse(await findSubmission(c), viewOf(c))));
  app.get('/v1alpha2/container/:id/status', async c =>
    c.json(statusResponse(await awaitSubmission(c), logAddress(publicUrl, c))),
  );
  app.get('/container-token/:id', async c => c.json(describeTokenResponse(await findSubmission(c), viewOf(c))));
  app.delete('/container-token/:id', async c => {
    const submission = await findSubmission(c);
    noteAction(c, 'token.revoke', { target: shownToken(submission.record.id) });
    await ledger.revoke(submission.record.id);
    return c.json(describeTokenResponse(submission, viewOf(c)));
  });
  return app;
}

/** A token that was issued, and the build or copy that it is of. */
export function noteSubmission(c: Context, { record, build }: Submission): void {
  const target = [shownToken(record.id), record.containerImage, build?.id].filter(Boolean).join(' ');
  noteAction(c, 'token.issue', { target });
}

/** The page with the log of a build, or the result of a scan. */
function logAddress(publicUrl: string | undefined, c: Context): (id: string) => string {
  const base = publicUrl ?? `${new URL(c.req.url).protocol}//${publicHost(publicUrl, c.req.header('Host'))}`;
  return id => new URL(id.startsWith('sc-') ? `/view/scans/${id}` : buildLogPath(id), base).href;
}
