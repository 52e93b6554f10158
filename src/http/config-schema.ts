// `containerConfig` of a submit request: what the client wants changed in the image, checked field by field.
import { z } from 'zod';
import { textMapSchema } from '../augment/augmentation.ts';
import { isDigest } from '../oci/digest.ts';
import { compressionOf } from '../oci/media-type.ts';
import { formatPlatform, InvalidPlatform, parsePlatform } from '../oci/platform.ts';

const MAX_USER = 256;
const MAX_WORKING_DIR = 4096;
/** As many as docker's engine takes; below ours come the image's own. */
const MAX_LAYERS = 125;
/** Of env, labels and all else but the layers, as JSON: it becomes part of every platform's image config. */
const MAX_CHARACTERS = 1024 * 1024;
const LOCATION = /^(?:data:.|https?:\/\/.|docker:\/\/.|oci:\/\/.)/s;
const ENV = /^[^=]+=/;
const PORT = /^([1-9]\d{0,4})(?:\/(tcp|udp|sctp))?$/;

/** A string that a process can get: a NUL would end it early. */
export const textSchema = z.string().refine(text => !text.includes('\0'), 'must not contain a NUL character');

const digitsSchema = z.string().regex(/^\d{1,15}$/);

/** A whole number, or its digits: clients' documents have sizes as text. */
export const wholeNumberSchema = z
  .union([z.int(), digitsSchema.transform(Number)], 'must be a whole number')
  .refine(number => number >= 0, 'must not be negative');

const envSchema = textSchema
  .regex(ENV, 'must be KEY=VALUE, with a key that is not empty')
  .refine(entry => !entry.startsWith('__proto__='), 'must not have the key "__proto__"');

const digestSchema = z.string().refine(isDigest, 'must be sha256:<64 hex> or sha512:<128 hex>');

const platformSchema = z.string().transform((text, context) => {
  try {
    return formatPlatform(parsePlatform(text));
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    context.addIssue({ code: 'custom', message: error.message });
    return z.NEVER;
  }
});

const portSchema = z.string().transform((text, context) => {
  const [, port, protocol = 'tcp'] = PORT.exec(text) ?? [];
  if (port !== undefined && Number(port) <= 65535) return `${port}/${protocol}`;
  context.addIssue({ code: 'custom', message: 'must be a port from 1 to 65535, with /tcp, /udp or /sctp or without' });
  return z.NEVER;
});

/** Refuses more than `max` characters or items, with the field's size in the message. */
export function atMost<T extends { readonly length: number }>(max: number, unit: 'characters' | 'items') {
  return ({ value, issues }: z.core.ParsePayload<T>): void => {
    const message = `has ${value.length} ${unit}, over the limit of ${max}`;
    if (value.length > max) issues.push({ code: 'custom', message, input: value });
  };
}

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
    platforms: z.array(platformSchema).optional(),
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
    env: z.array(envSchema).optional(),
    workingDir: textSchema.check(atMost(MAX_WORKING_DIR, 'characters')).optional(),
    user: textSchema.check(atMost(MAX_USER, 'characters')).optional(),
    labels: textMapSchema.optional(),
    /** Always with the protocol: "80/tcp". */
    exposedPorts: z.array(portSchema).optional(),
    annotations: textMapSchema.optional(),
    layers: z.array(createLayerSchema(limits.maxLocationCharacters)).check(atMost(MAX_LAYERS, 'items')).optional(),
  });
  return z.preprocess(
    dropUnset,
    fields.check(checkLength).transform(config => (Object.keys(config).length > 0 ? config : undefined)),
  );
}

function checkLength({ value, issues }: z.core.ParsePayload<{ readonly layers?: unknown }>): void {
  const { layers, ...rest } = value;
  const { length } = JSON.stringify(rest);
  const message = `has ${length} characters besides its layers, over the limit of ${MAX_CHARACTERS}`;
  if (length > MAX_CHARACTERS) issues.push({ code: 'custom', message, input: value });
}

export type ContainerConfig = NonNullable<z.infer<ReturnType<typeof createConfigSchema>>>;
export type RequestedLayer = NonNullable<ContainerConfig['layers']>[number];
