// The augment API: a request becomes a token, and the token names an image to pull.
import { type Context, Hono } from 'hono';
import type { Work } from '../augment/budget.ts';
import type { Builds } from '../builds/builds.ts';
import { parseReference, type Reference } from '../oci/reference.ts';
import type { Origins } from '../pull/origin.ts';
import type { Prepare, Prepared } from '../pull/prepare.ts';
import type { TokenLedger } from '../pull/tokens/ledger.ts';
import { ApiError } from './api-error.ts';
import { parseSubmit, type SubmitLimits, type SubmitRequest } from './augment-schema.ts';
import { callerSubject } from './authentication.ts';
import { buildLogPath } from './build-response.ts';
import { accountOf, type CountFor } from './caller-rate.ts';
import type { FindRuled, RuledChanges } from './caller-rules.ts';
import type { FindToken } from './find-token.ts';
import { imageAddress } from './image-address.ts';
import { type BodyLimits, withJson } from './json-body.ts';
import { publicHost } from './public-host.ts';
import { checkMediaTypes, toApiError, toChanges } from './requested-changes.ts';
import { placesOf, type RequireSources } from './source-rights.ts';
import type { SubmitBuilt } from './submit-built.ts';
import {
  type Building,
  describeTokenResponse,
  recordResponse,
  shownRequest,
  statusResponse,
  submitResponse,
  type View,
} from './submit-response.ts';
import type { StartWork } from './work.ts';

interface AugmentApiDeps {
  readonly prepare: Prepare;
  readonly submitBuilt: SubmitBuilt;
  readonly builds: Pick<Builds, 'find'>;
  readonly ledger: TokenLedger;
  readonly findToken: FindToken;
  readonly origins: Origins;
  readonly requireSources: RequireSources;
  readonly findRuled: FindRuled;
  /** Of tokens: a large request counts for several. */
  readonly countToken: CountFor;
  readonly options: {
    readonly publicUrl: string | undefined;
    readonly attestations: 'drop' | 'keep';
    readonly body: BodyLimits;
    readonly startWork: StartWork;
    readonly limits: SubmitLimits;
  };
}

/** An image as asked for. */
interface AskedImage {
  readonly image: string;
  readonly work: Work;
}

export function createAugmentApi(deps: AugmentApiDeps): Hono {
  const { prepare, submitBuilt, builds, ledger, findToken, origins, requireSources, findRuled, countToken, options } =
    deps;
  const app = new Hono();

  function submit(c: Context, version: 1 | 2): Promise<Response> {
    return withJson(c, options.body, async body => {
      const host = findHost(c);
      const building = await answer(c, parseSubmit(body, options.limits));
      return c.json(submitResponse(building, viewOn(host), version));
    });
  }

  async function answer(c: Context, request: SubmitRequest): Promise<Building> {
    await countToken(c, weightOf(request));
    const { source, build } = request;
    const isThere = source.kind === 'image' && !build.freeze && !build.mirror;
    const work = options.startWork(c);
    return isThere ? submitImage(c, request, { image: source.image, work }) : submitBuilt(c, request, work);
  }

  async function submitImage(c: Context, request: SubmitRequest, asked: AskedImage): Promise<Building> {
    const { storedLayers, tag, warnings, moved, ...prepared } = await prepareImage(c, request, asked);
    checkMediaTypes(request.containerConfig?.layers ?? [], prepared.augmentation.layers);
    await ledger.keepLayers(storedLayers, accountOf(c).key);
    const record = await ledger.issue({
      ...prepared,
      ...(tag && { tag }),
      containerImage: asked.image,
      caller: callerSubject(c),
      request: shownRequest(request),
    });
    return { record, warnings, moved };
  }

  async function prepareImage(c: Context, request: SubmitRequest, { image, work }: AskedImage): Promise<Prepared> {
    const wanted = { reference: parseReference(image), ...toChanges(request, options.attestations) };
    requireSources(c, placesOf(wanted));
    try {
      return await prepare({ ...wanted, ...(await findRules(c, wanted.reference)) }, work);
    } catch (error) {
      throw toApiError(error, image);
    }
  }

  async function findRules(c: Context, { registry, repository, tag, digest }: Reference): Promise<RuledChanges> {
    return findRuled(c, { origin: origins.locate(registry, repository), tag: digest ? undefined : tag });
  }

  function findHost(c: Context): string {
    return publicHost(options.publicUrl, c.req.header('Host'));
  }

  function viewOn(host: string): View {
    return { host, addressOf: image => imageAddress(image, origins, host) };
  }

  async function findBuilding(c: Context): Promise<Building> {
    const record = await findToken(c, c.req.param('id') ?? '');
    if (!record) throw new ApiError(404, 'this token is unknown or has expired');
    const build = record.buildId === undefined ? undefined : await builds.find(record.buildId);
    return { record, build };
  }

  app.post('/v1alpha2/container', c => submit(c, 2));
  app.post('/container-token', c => submit(c, 1));
  app.get('/v1alpha2/container/:id', async c => c.json(recordResponse(await findBuilding(c), viewOn(findHost(c)))));
  app.get('/v1alpha2/container/:id/status', async c =>
    c.json(statusResponse(await findBuilding(c), logAddress(options.publicUrl, c))),
  );
  app.get('/container-token/:id', async c => c.json(describeTokenResponse(await findBuilding(c), viewOn(findHost(c)))));
  app.delete('/container-token/:id', async c => {
    const building = await findBuilding(c);
    await ledger.revoke(building.record.id);
    return c.json(describeTokenResponse(building, viewOn(findHost(c))));
  });
  return app;
}

/** So many bytes of a request, which its token's record keeps, count for one token. */
const BYTES_OF_ONE = 32 * 1024;

/** Bytes of layers are not in the record. */
function weightOf({ containerConfig: { layers = [], ...config } = {}, containerIncludes }: SubmitRequest): number {
  const places = layers.map(({ location }) => (/^data:/i.test(location) ? '' : location));
  return 1 + Math.floor(JSON.stringify([config, containerIncludes, places]).length / BYTES_OF_ONE);
}

/** Where people find the log of a build. */
function logAddress(publicUrl: string | undefined, c: Context): (id: string) => string {
  const base = publicUrl ?? `${new URL(c.req.url).protocol}//${publicHost(publicUrl, c.req.header('Host'))}`;
  return id => new URL(buildLogPath(id), base).href;
}
