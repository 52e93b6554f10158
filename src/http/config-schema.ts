// `containerConfig` of a submit request: what the client wants changed in the image, checked field by field.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';
import { compressionOf } from '../oci/media-type.ts';
import { formatPlatform, InvalidPlatform, parsePlatform } from '../oci/platform.ts';

const MAX_USER = 256;
const MAX_WORKING_DIR = 4096;
const LOCATION = /^(?:data:.|https?:\/\/.|docker:\/\/.|oci:\/\/.)/s;
const ENV = /^(?!__proto__=)[^=]+=/;
const PORT = /^([1-9]\d{0,4})(?:\/(tcp|udp|sctp))?$/;

/** A string that a process can get: a NUL would end it early. */
export const textSchema = z.string().refine(text => !text.includes('\0'), 'must not contain a NUL character');

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

/** Drops what clients send for "not set": null, and empty strings, lists and objects. Only of this object, not of those within. */
export function dropUnset(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, field]) => !isUnset(field)));
}

function isUnset(value: unknown): boolean {
  if (value === null || value === undefined || value === '') return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

function createLayerSchema(maxLocationCharacters: number) {
  const fields = z.object({
    location: z.string('must be given, as a string').superRefine((location, context) => {
      const { length } = location;
      const message =
        length > maxLocationCharacters
          ? `has ${length} characters, over the limit of ${maxLocationCharacters}`
          : 'must be data:<base64>, or an http://, https://, docker:// or oci:// address';
      if (length > maxLocationCharacters || !isLocation(location)) context.addIssue({ code: 'custom', message });
    }),
    gzipDigest: digestSchema.optional(),
    gzipSize: z.int().nonnegative().optional(),
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
    env: z.array(textSchema.regex(ENV, 'must be KEY=VALUE with a non-empty key')).optional(),
    workingDir: textSchema.max(MAX_WORKING_DIR, `must have at most ${MAX_WORKING_DIR} characters`).optional(),
    user: textSchema.max(MAX_USER, `must have at most ${MAX_USER} characters`).optional(),
    labels: z.record(z.string(), z.string()).optional(),
    /** Always with the protocol: "80/tcp". */
    exposedPorts: z.array(portSchema).optional(),
    annotations: z.record(z.string(), z.string()).optional(),
    layers: z.array(createLayerSchema(limits.maxLocationCharacters)).optional(),
  });
  return z.preprocess(
    dropUnset,
    fields.transform(config => (Object.keys(config).length > 0 ? config : undefined)),
  );
}

export type ContainerConfig = NonNullable<z.infer<ReturnType<typeof createConfigSchema>>>;
export type RequestedLayer = NonNullable<ContainerConfig['layers']>[number];
