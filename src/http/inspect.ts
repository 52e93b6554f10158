// The inspect API: config and manifest of an image, or its index, as its registry has them.
import { Hono } from 'hono';
import { z } from 'zod';
import { InvalidPlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import type { Inspect } from '../pull/inspect.ts';
import { ApiError } from './api-error.ts';
import { checkImage, imageSchema } from './augment-schema.ts';
import { dropUnset } from './config-schema.ts';
import { inspectResponse } from './inspect-response.ts';
import { type BodyLimits, withJson } from './json-body.ts';
import { sourceError } from './source-error.ts';
import type { RequireSources } from './source-rights.ts';

interface InspectDeps {
  readonly inspect: Inspect;
  readonly requireSources: RequireSources;
  readonly body: BodyLimits;
}

const requestSchema = z.preprocess(dropUnset, z.object({ containerImage: imageSchema }));

export function createInspectApi({ inspect, requireSources, body: limits }: InspectDeps): Hono {
  const app = new Hono();
  app.post('/v1alpha1/inspect', async c => {
    const containerImage = await withJson(c, limits, async body => toImage(body));
    checkImage('containerImage', containerImage);
    const reference = parseReference(containerImage);
    const platform = toPlatform(c.req.query('platform'));
    requireSources(c, [reference]);
    try {
      return c.json(inspectResponse(await inspect(reference, { platform, signal: c.req.raw.signal }), reference));
    } catch (error) {
      throw sourceError(error, containerImage);
    }
  });
  return app;
}

function toImage(body: unknown): string {
  const parsed = requestSchema.safeParse(body);
  if (parsed.success) return parsed.data.containerImage;
  const fault = parsed.error.issues.find(({ code }) => code === 'custom')?.message ?? 'must be given, as a string';
  throw new ApiError(400, `containerImage: ${fault}`, { cause: parsed.error });
}

function toPlatform(text: string | undefined): Platform | undefined {
  try {
    return text ? parsePlatform(text) : undefined;
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    throw new ApiError(400, `platform: ${error.message}`, { cause: error });
  }
}
