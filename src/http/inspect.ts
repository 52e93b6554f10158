// The inspect API: config and manifest of an image, or its index, as its registry has them.
import { Hono } from 'hono';
import { z } from 'zod';
import { InvalidPlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import type { Inspect } from '../proxy/inspect.ts';
import { ApiError } from './api-error.ts';
import { checkImage } from './augment-schema.ts';
import { dropUnset } from './config-schema.ts';
import { inspectResponse } from './inspect-response.ts';
import { limitBody, readJson } from './json-body.ts';
import { sourceError } from './source-error.ts';
import type { RequireSources } from './source-rights.ts';

export interface InspectDeps {
  readonly inspect: Inspect;
  readonly requireSources: RequireSources;
  readonly maxBodyBytes: number;
}

const requestSchema = z.preprocess(dropUnset, z.object({ containerImage: z.string() }));

export function createInspectApi({ inspect, requireSources, maxBodyBytes }: InspectDeps): Hono {
  const app = new Hono();
  app.post('/v1alpha1/inspect', limitBody(maxBodyBytes), async c => {
    const containerImage = toImage(await readJson(c));
    checkImage('containerImage', containerImage);
    const reference = parseReference(containerImage);
    const platform = toPlatform(c.req.query('platform'));
    requireSources(c, [reference]);
    try {
      return c.json(inspectResponse(await inspect(reference, platform), reference));
    } catch (error) {
      throw sourceError(error, containerImage);
    }
  });
  return app;
}

function toImage(body: unknown): string {
  const parsed = requestSchema.safeParse(body);
  if (parsed.success) return parsed.data.containerImage;
  throw new ApiError(400, 'containerImage: must be given, as a string', { cause: parsed.error });
}

function toPlatform(text: string | undefined): Platform | undefined {
  try {
    return text ? parsePlatform(text) : undefined;
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    throw new ApiError(400, `platform: ${error.message}`, { cause: error });
  }
}
