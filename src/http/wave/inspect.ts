// The inspect API: config and manifest of an image, or its index, as in its registry.
import { type Context, Hono } from 'hono';
import { z } from 'zod';
import { parseImageConfig } from '../../oci/image-config.ts';
import { type JsonObject, objectIn, parseObject } from '../../oci/json.ts';
import { familyOf } from '../../oci/media-type.ts';
import { InvalidPlatform, type Platform, parsePlatform } from '../../oci/platform.ts';
import { isRegistryHost, parseReference, type Reference, tagOrDigest } from '../../oci/reference.ts';
import type { Inspect, Inspected } from '../../pull/images.ts';
import type { RequireSources } from '../../submit/changes.ts';
import { ApiError, toSourceError } from '../../submit/errors.ts';
import { callerOf } from '../middleware/authentication.ts';
import { dropUnset } from './config-schema.ts';
import { type BodyLimits, withJson } from './json-body.ts';
import { checkImage, imageSchema } from './submit-schema.ts';

export const inspectSchema = z.preprocess(dropUnset, z.object({ containerImage: imageSchema.min(1) }));

export function createInspectApi({
  inspect,
  requireSources,
  body: limits,
}: {
  readonly inspect: Inspect;
  readonly requireSources: RequireSources;
  readonly body: BodyLimits;
}): Hono {
  const app = new Hono();
  app.post('/v1alpha1/inspect', c =>
    withJson(c, limits, async body => {
      const asked = { containerImage: toImage(body), platform: c.req.query('platform') };
      return c.json(await answerInspection(c, asked, { inspect, requireSources }));
    }),
  );
  return app;
}

/** Describes the requested image, without changes. Throws ApiError or RegistryError. */
async function answerInspection(
  c: Context,
  asked: { readonly containerImage: string; readonly platform: string | undefined },
  { inspect, requireSources }: { readonly inspect: Inspect; readonly requireSources: RequireSources },
): Promise<object> {
  const { containerImage } = asked;
  checkImage('containerImage', containerImage);
  const reference = parseReference(containerImage);
  const platform = toPlatform(asked.platform);
  requireSources(callerOf(c), [reference]);
  try {
    return inspectResponse(await inspect(reference, { platform, signal: c.req.raw.signal }), reference);
  } catch (error) {
    throw toSourceError(error, containerImage);
  }
}

function toImage(body: unknown): string {
  const parsed = inspectSchema.safeParse(body);
  if (parsed.success) return parsed.data.containerImage;
  const fault = parsed.error.issues.find(({ code }) => code === 'custom')?.message ?? 'is required, as a string';
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

// The response of the inspect API: the image's own documents, with the field names that existing clients read. A map, since the names come
// from foreign configs, and an object would inherit `constructor`.
/** Fields whose names differ by more than a lower-case first letter. */
const RENAMED: ReadonlyMap<string, string> = new Map([
  ['Hostname', 'hostName'],
  ['Domainname', 'domainName'],
]);

/** Throws MANIFEST_INVALID for an invalid image config. */
function inspectResponse(inspected: Inspected, reference: Reference): object {
  const { registry, repository, manifest } = inspected;
  const { digest, mediaType } = manifest;
  const document = parseObject(manifest.raw);
  if (inspected.kind === 'index') return { index: { ...document, mediaType, digest } };
  parseImageConfig(inspected.config);
  return {
    container: {
      registry,
      hostName: registryAddress(registry),
      imageName: repository,
      reference: tagOrDigest(reference),
      digest,
      config: showConfig(parseObject(inspected.config)),
      manifest: { ...document, mediaType },
      // Versions of Docker's manifest schema: OCI's belongs to the second.
      v1: false,
      v2: true,
      oci: familyOf(mediaType) === 'oci',
    },
  };
}

/** What clients put before /v2/…: an alias has no address that others know. */
function registryAddress(registry: string): string {
  if (registry === 'docker.io') return 'https://registry-1.docker.io';
  return isRegistryHost(registry) ? `https://${registry}` : registry;
}

/** Clients read the run configuration in camel case: `env`, not the `Env` of image-spec. */
function showConfig(raw: JsonObject): object {
  const { config, created, ...rest } = raw;
  const fields = Object.entries(objectIn(raw, 'config')).filter(([, value]) => value !== null);
  const shown = fields.map(([name, value]) => [
    RENAMED.get(name) ?? `${name[0]?.toLowerCase()}${name.slice(1)}`,
    value,
  ]);
  return { ...rest, ...toInstant(created), config: Object.fromEntries(shown) };
}

/** In UTC, or absent for an invalid time: clients fail on one that they cannot parse. */
function toInstant(created: unknown): { readonly created?: string } {
  const time = typeof created === 'string' ? Date.parse(created) : Number.NaN;
  return Number.isNaN(time) ? {} : { created: new Date(time).toISOString() };
}
