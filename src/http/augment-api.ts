// The augment API: a request becomes a token, and the token names an image to pull.
import { type Context, Hono } from 'hono';
import type { Layer } from '../augment/augmentation.ts';
import { InvalidLayer } from '../augment/layer.ts';
import { compressionOf } from '../oci/media-type.ts';
import { formatPlatform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import { ContentMismatch } from '../oci/verify.ts';
import type { Prepare, Wanted } from '../proxy/prepare.ts';
import type { TokenLedger } from '../tokens/ledger.ts';
import type { TokenRecord } from '../tokens/record.ts';
import { ApiError } from './api-error.ts';
import { parseSubmit, type SubmitLimits, type SubmitRequest } from './augment-schema.ts';
import type { RequestedLayer } from './config-schema.ts';
import { limitBody, readJson } from './json-body.ts';
import { publicHost } from './public-host.ts';
import { sourceError } from './source-error.ts';
import { placesOf, type RequireSources } from './source-rights.ts';
import {
  describeTokenResponse,
  recordResponse,
  shownRequest,
  statusResponse,
  submitResponse,
} from './submit-response.ts';

export interface AugmentApiDeps {
  readonly prepare: Prepare;
  readonly ledger: TokenLedger;
  readonly now: () => Date;
  readonly requireSources: RequireSources;
  readonly options: {
    readonly publicUrl: string | undefined;
    readonly attestations: 'drop' | 'keep';
    readonly ttlMs: number;
    readonly maxBodyBytes: number;
    readonly limits: SubmitLimits;
  };
}

export function createAugmentApi({ prepare, ledger, now, requireSources, options }: AugmentApiDeps): Hono {
  const app = new Hono();
  const limit = limitBody(options.maxBodyBytes);

  async function submit(c: Context): Promise<Response> {
    const host = publicHost(options.publicUrl, c.req.header('Host'));
    const request = parseSubmit(await readJson(c), options.limits);
    const wanted = toWanted(request, options.attestations);
    requireSources(c, placesOf(wanted));
    const { storedLayers, tag, ...prepared } = await prepare(wanted).catch(error => {
      throw toApiError(error, request.containerImage);
    });
    checkMediaTypes(request.containerConfig?.layers ?? [], prepared.augmentation.layers);
    // Kept before the token is: a token never names layers that a crash lost.
    const expiresAt = new Date(now().getTime() + options.ttlMs + EXPIRY_SLACK_MS);
    for (const [digest, bytes] of storedLayers) await ledger.keepLayer(bytes, digest, expiresAt);
    const { containerImage } = request;
    const record = await ledger.issue({
      ...prepared,
      ...(tag && { tag }),
      containerImage,
      request: shownRequest(request),
    });
    return c.json(submitResponse(record, host));
  }

  async function getRecord(id: string): Promise<TokenRecord> {
    const record = await ledger.find(id);
    if (record) return record;
    throw new ApiError(404, 'this token is unknown or has expired');
  }

  app.post('/v1alpha2/container', limit, submit);
  app.post('/container-token', limit, submit);
  app.get('/v1alpha2/container/:id', async c => {
    const record = await getRecord(c.req.param('id'));
    return c.json(recordResponse(record, publicHost(options.publicUrl, c.req.header('Host'))));
  });
  app.get('/v1alpha2/container/:id/status', async c => c.json(statusResponse(await getRecord(c.req.param('id')))));
  app.get('/container-token/:id', async c => {
    const record = await getRecord(c.req.param('id'));
    return c.json(describeTokenResponse(record, publicHost(options.publicUrl, c.req.header('Host'))));
  });
  app.delete('/container-token/:id', async c => {
    const record = await getRecord(c.req.param('id'));
    await ledger.revoke(record.id);
    return c.json(describeTokenResponse(record, publicHost(options.publicUrl, c.req.header('Host'))));
  });
  return app;
}

/** Layers outlive the token that is given out a moment later. */
const EXPIRY_SLACK_MS = 60_000;

function toWanted(request: SubmitRequest, attestations: 'drop' | 'keep'): Wanted {
  const { layers = [], env, ...config } = request.containerConfig ?? {};
  return {
    reference: parseReference(request.containerImage),
    layers,
    includes: request.containerIncludes,
    changes: {
      ...config,
      ...(env && { env: Object.fromEntries(env.map(splitEnv)) }),
      ...(request.platforms && { platforms: request.platforms.map(formatPlatform) }),
      attestations,
    },
  };
}

function splitEnv(entry: string): [name: string, value: string] {
  const at = entry.indexOf('=');
  return [entry.slice(0, at), entry.slice(at + 1)];
}

/** The described layers begin with the requested ones, in their order. */
function checkMediaTypes(requested: readonly RequestedLayer[], described: readonly Layer[]): void {
  for (const [at, { mediaType }] of requested.entries()) {
    const compression = described[at]?.compression;
    if (mediaType === undefined || compressionOf(mediaType) === compression) continue;
    const field = `containerConfig.layers[${at}].mediaType`;
    throw new ApiError(400, `${field}: is ${mediaType}, but the bytes have the compression ${compression}`);
  }
}

/** Whatever keeps an image from being augmented is the request's fault to clients: only 400 is shown to people as it is. */
function toApiError(error: unknown, image: string): unknown {
  if (error instanceof InvalidLayer) return new ApiError(400, error.message, { cause: error });
  if (error instanceof ContentMismatch) return new ApiError(400, `${image}: ${error.message}`, { cause: error });
  return sourceError(error, image);
}
