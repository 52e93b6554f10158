// `containerConfig` of a submit request: the changes to the image, validated field by field.
import { z } from 'zod';
import { InvalidLayer } from '../../augment/budget.ts';
import { parseLocation } from '../../augment/location.ts';
import { atMost, listSchema } from '../../oci/bounded.ts';
import {
  checkChangesLength,
  envEntrySchema,
  MAX_ADDED_LAYERS,
  platformSchema,
  portSchema,
  textMapSchema,
  textSchema,
  userSchema,
  workingDirSchema,
} from '../../oci/config-fields.ts';
import { isDigest } from '../../oci/digest.ts';
import { compressionOf } from '../../oci/media-type.ts';
import { formatPlatform } from '../../oci/platform.ts';

const LOCATION = /^(?:data:|https?:\/\/|docker:\/\/|oci:\/\/)/i;

const digitsSchema = z.string().regex(/^\d{1,15}$/);

/** A whole number, or its digits: clients send sizes as text. */
export const wholeNumberSchema = z
  .union([z.int(), digitsSchema.transform(Number)], 'must be a whole number')
  .refine(number => number >= 0, 'must not be negative');

const digestSchema = z.string().refine(isDigest, 'must be sha256:<64 hex> or sha512:<128 hex>');

/**
 * Drops values that clients send for "not set": null, and empty strings, lists and objects. Only in this object, not in nested ones.
 */
export function dropUnset(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, field]) => !isUnset(field)));
}

function isUnset(value: unknown): boolean {
  if (value === null || value === undefined || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** Per layer. */
const MAX_PLATFORMS = 100;

export function createLayerSchema(maxLocationCharacters: number) {
  return z.preprocess(dropUnset, layerFields(maxLocationCharacters));
}

function layerFields(maxLocationCharacters: number) {
  return z.object({
    location: z
      .string('is required, as a string')
      .regex(LOCATION, 'must be data:<base64>, or an http://, https://, docker:// or oci:// address')
      .check(atMost(maxLocationCharacters, 'characters'), checkLocation),
    gzipDigest: digestSchema.optional(),
    gzipSize: wholeNumberSchema.optional(),
    tarDigest: digestSchema.optional(),
    skipHashing: z.boolean().optional(),
    /** Normalised; absent: all platforms get the layer. */
    platforms: listSchema(platformSchema.transform(formatPlatform), MAX_PLATFORMS).optional(),
    mediaType: z
      .string()
      .refine(type => compressionOf(type) !== undefined, 'must be an OCI or Docker layer media type')
      .optional(),
  });
}

/** Does not check whether the location can be reached. */
function checkLocation({ value, issues }: z.core.ParsePayload<string>): void {
  try {
    parseLocation(value);
  } catch (error) {
    if (!(error instanceof InvalidLayer)) throw error;
    issues.push({ code: 'custom', message: error.message.replace(/^layer location: /, ''), input: value });
  }
}

/** The schema of `containerConfig`; an empty config becomes undefined. */
export function createConfigSchema(limits: { readonly maxLocationCharacters: number }) {
  const layer = createLayerSchema(limits.maxLocationCharacters).refine(({ location }) => !/[\r\n]/.test(location), {
    path: ['location'],
    message: 'has line breaks: base64 in one line is needed, as "base64 -w0" writes it',
  });
  const fields = configFields(layer);
  return z.preprocess(
    dropUnset,
    fields.check(checkChangesLength).transform(config => (Object.keys(config).length > 0 ? config : undefined)),
  );
}

function configFields<Layer extends z.ZodType>(layer: Layer) {
  return z.object({
    entrypoint: listSchema(textSchema).optional(),
    cmd: listSchema(textSchema).optional(),
    env: listSchema(envEntrySchema).optional(),
    workingDir: workingDirSchema.optional(),
    user: userSchema.optional(),
    labels: textMapSchema.optional(),
    exposedPorts: listSchema(portSchema).optional(),
    annotations: textMapSchema.optional(),
    layers: listSchema(layer, MAX_ADDED_LAYERS).optional(),
  });
}

/** The fields that a `containerConfig` and each of its layers may have. */
export const CONFIG_KEYS: readonly string[] = Object.keys(configFields(z.unknown()).shape);
export const LAYER_KEYS: readonly string[] = Object.keys(layerFields(0).shape);
