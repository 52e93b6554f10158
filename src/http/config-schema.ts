// `containerConfig` of a submit request: what the client wants changed in the image, checked field by field.
import { z } from 'zod';
import {
  atMost,
  checkChangesLength,
  envEntrySchema,
  MAX_ADDED_LAYERS,
  platformSchema,
  portSchema,
  textMapSchema,
  textSchema,
  userSchema,
  workingDirSchema,
} from '../oci/config-fields.ts';
import { isDigest } from '../oci/digest.ts';
import { compressionOf } from '../oci/media-type.ts';
import { formatPlatform } from '../oci/platform.ts';

const LOCATION = /^(?:data:.|https?:\/\/.|docker:\/\/.|oci:\/\/.)/s;

const digitsSchema = z.string().regex(/^\d{1,15}$/);

/** A whole number, or its digits: clients' documents have sizes as text. */
export const wholeNumberSchema = z
  .union([z.int(), digitsSchema.transform(Number)], 'must be a whole number')
  .refine(number => number >= 0, 'must not be negative');

const digestSchema = z.string().refine(isDigest, 'must be sha256:<64 hex> or sha512:<128 hex>');

/** Drops what clients send for "not set": null, and empty strings, lists and objects. Only of this object, not of those within. */
export function dropUnset(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, field]) => !isUnset(field)));
}

function isUnset(value: unknown): boolean {
  if (value === null || value === undefined || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

export function createLayerSchema(maxLocationCharacters: number) {
  const fields = z.object({
    location: z
      .string('must be given, as a string')
      .check(atMost(maxLocationCharacters, 'characters'))
      .refine(isLocation, 'must be data:<base64>, or an http://, https://, docker:// or oci:// address'),
    gzipDigest: digestSchema.optional(),
    gzipSize: wholeNumberSchema.optional(),
    tarDigest: digestSchema.optional(),
    skipHashing: z.boolean().optional(),
    /** Normalised; absent: all platforms get the layer. */
    platforms: z.array(platformSchema.transform(formatPlatform)).optional(),
    mediaType: z
      .string()
      .refine(type => compressionOf(type) !== undefined, 'must be an OCI or Docker layer media type')
      .optional(),
  });
  return z.preprocess(dropUnset, fields);
}

function isLocation(location: string): boolean {
  return LOCATION.test(location) && (location.startsWith('data:') || URL.canParse(location));
}

/** The schema of `containerConfig`; a config in which nothing is set becomes undefined. */
export function createConfigSchema(limits: { readonly maxLocationCharacters: number }) {
  const fields = z.object({
    entrypoint: z.array(textSchema).optional(),
    cmd: z.array(textSchema).optional(),
    env: z.array(envEntrySchema).optional(),
    workingDir: workingDirSchema.optional(),
    user: userSchema.optional(),
    labels: textMapSchema.optional(),
    exposedPorts: z.array(portSchema).optional(),
    annotations: textMapSchema.optional(),
    layers: z
      .array(createLayerSchema(limits.maxLocationCharacters))
      .check(atMost(MAX_ADDED_LAYERS, 'items'))
      .optional(),
  });
  return z.preprocess(
    dropUnset,
    fields.check(checkChangesLength).transform(config => (Object.keys(config).length > 0 ? config : undefined)),
  );
}

export type ContainerConfig = NonNullable<z.infer<ReturnType<typeof createConfigSchema>>>;
export type RequestedLayer = NonNullable<ContainerConfig['layers']>[number];
