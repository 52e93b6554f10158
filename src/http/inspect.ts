// The inspect API: config and manifest of an image, or its index, as its registry has them.
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { parseImageConfig } from '../oci/image-config.ts';
import { familyOf } from '../oci/media-type.ts';
import { InvalidPlatform, type Platform, parsePlatform } from '../oci/platform.ts';
import { parseReference, type Reference, tagOrDigest } from '../oci/reference.ts';
import type { Inspect, Inspected } from '../proxy/inspect.ts';
import { ApiError } from './api-error.ts';
import { dropUnset } from './config-schema.ts';
import { sourceError } from './source-error.ts';

export interface InspectDeps {
  readonly inspect: Inspect;
  readonly maxBodyBytes: number;
}

const requestSchema = z.preprocess(dropUnset, z.object({ containerImage: z.string() }));

export function createInspectApi({ inspect, maxBodyBytes }: InspectDeps): Hono {
  const app = new Hono();
  const limitBody = bodyLimit({
    maxSize: maxBodyBytes,
    onError: () => {
      throw new ApiError(413, `the body is larger than ${maxBodyBytes} bytes`);
    },
  });
  app.post('/v1alpha1/inspect', limitBody, async c => {
    const containerImage = await readImage(c);
    const reference = toReference(containerImage);
    const platform = toPlatform(c.req.query('platform'));
    const inspected = await inspect(reference, platform).catch(error => {
      throw sourceError(error, containerImage);
    });
    return c.json(describeInspected(inspected, reference));
  });
  return app;
}

async function readImage(c: Context): Promise<string> {
  const body: unknown = await c.req.json().catch(cause => {
    throw cause instanceof SyntaxError ? new ApiError(400, 'the body must be a JSON object', { cause }) : cause;
  });
  const parsed = requestSchema.safeParse(body);
  if (parsed.success) return parsed.data.containerImage;
  throw new ApiError(400, 'containerImage: must be given, as a string', { cause: parsed.error });
}

function toReference(image: string): Reference {
  try {
    return parseReference(image);
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    throw new ApiError(400, `containerImage: ${error.message}`, { cause: error });
  }
}

function toPlatform(text: string | undefined): Platform | undefined {
  try {
    return text ? parsePlatform(text) : undefined;
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    throw new ApiError(400, `platform: ${error.message}`, { cause: error });
  }
}

function describeInspected(inspected: Inspected, reference: Reference): object {
  const { registry, repository, manifest } = inspected;
  const { digest, mediaType } = manifest;
  const document: object = parseJson(manifest.raw);
  if (inspected.kind === 'index') return { index: { ...document, mediaType, digest } };
  return {
    container: {
      registry,
      hostName: registry,
      imageName: repository,
      reference: tagOrDigest(reference),
      digest,
      config: describeConfig(inspected.config),
      manifest: { ...document, mediaType },
      v1: false,
      v2: familyOf(mediaType) === 'docker',
      oci: familyOf(mediaType) === 'oci',
    },
  };
}

/** Clients want the fields that run a container in camel case: `env`, not the `Env` of image-spec. */
function describeConfig(raw: Uint8Array): object {
  const { config, ...rest } = parseImageConfig(raw);
  const fields = Object.entries(config ?? {}).map(([name, value]) => [name[0]?.toLowerCase() + name.slice(1), value]);
  return { ...rest, config: Object.fromEntries(fields) };
}

function parseJson(raw: Uint8Array): object {
  return z.record(z.string(), z.unknown()).parse(JSON.parse(new TextDecoder().decode(raw)));
}
