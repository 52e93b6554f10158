// The fields of a submit request that describe a build, validated field by field. What a build does not support is rejected when it is
// planned.
import { z } from 'zod';
import { compressionSchema } from '../../builds/spec.ts';
import { atMost, listSchema, mapSchema } from '../../oci/bounded.ts';
import { textMapSchema } from '../../oci/config-fields.ts';
import { createLayerSchema, dropUnset, LAYER_KEYS } from './config-schema.ts';

const MAX_REPOSITORY = 255;
const MAX_ID = 128;
const MAX_ITEMS = 1000;
/** For a context sent as texts; one with more files is sent as a tar. */
const MAX_FILES = 10_000;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const PROVENANCES = ['none', 'min', 'max'] as const;
const MS_PER_UNIT = { s: 1000, m: 60_000, h: 3_600_000 } as const;

export interface BuildLimits {
  /** Of containerFile and condaFile, in characters of base64. */
  readonly maxContainerFileCharacters: number;
  /** Of each layer's location, in characters. */
  readonly maxLocationCharacters: number;
}

const id = z.string().max(MAX_ID);
const lines = listSchema(z.string(), MAX_ITEMS);

const timeoutSchema = z.string().transform((text, context): number => {
  const [, count, unit = ''] = /^(\d{1,6})([smh])$/.exec(text) ?? [];
  const factor = unit === 's' || unit === 'm' || unit === 'h' ? MS_PER_UNIT[unit] : Number.NaN;
  const ms = Number(count) * factor;
  if (ms > 0) return ms;
  context.addIssue({ code: 'custom', message: 'must be a duration such as 90s, 10m or 1h' });
  return z.NEVER;
});

/** A layer has a location; anything else is a map of files. */
function contextSchema(limits: BuildLimits) {
  const files = mapSchema(z.string('must be the text of a file'), MAX_FILES).transform(given => ({
    kind: 'files' as const,
    files: given,
  }));
  const layer = createLayerSchema(limits.maxLocationCharacters).transform(given => ({
    kind: 'layer' as const,
    layer: given,
  }));
  return z.unknown().transform((given, context) => {
    const schema = isLayer(given) ? layer : files;
    const parsed = schema.safeParse(given);
    if (parsed.success) return parsed.data;
    for (const issue of parsed.error.issues)
      context.addIssue({ code: 'custom', path: issue.path, message: issue.message });
    return z.NEVER;
  });
}

/** A map with other files beside one called `location` is still a map of files. */
function isLayer(given: unknown): boolean {
  if (typeof given !== 'object' || given === null) return false;
  return Object.hasOwn(given, 'location') && Object.keys(given).every(key => LAYER_KEYS.includes(key));
}

const optionsSchema = z.preprocess(dropUnset, z.looseObject({})).optional();

/** Undefined where nothing is set; everything else is validated when it is planned. */
export function packagesSchema() {
  return z.preprocess(given => unlessEmpty(dropUnset(given)), packagesFields.optional());
}

const packagesFields = z.object({
  type: z.enum(['CONDA', 'CRAN']),
  /** Base64. */
  environment: z.string().optional(),
  entries: lines.optional(),
  channels: lines.optional(),
  condaOpts: optionsSchema,
  pixiOpts: optionsSchema,
  cranOpts: optionsSchema,
});

function unlessEmpty(value: unknown): unknown {
  const isEmpty = typeof value === 'object' && value !== null && Object.keys(value).length === 0;
  return isEmpty ? undefined : value;
}

/** The text of a file that is sent as base64. */
export function fileSchema({ maxContainerFileCharacters }: BuildLimits) {
  return z.string().check(atMost(maxContainerFileCharacters, 'characters')).transform(decodeBase64);
}

const attestationFields = z.object({ sbom: z.boolean().optional(), provenance: z.enum(PROVENANCES).optional() });

/** Validates the whole body and drops other fields. */
export function createBuildSchema(limits: BuildLimits) {
  return z.preprocess(dropUnset, buildFields(limits));
}

function buildFields(limits: BuildLimits) {
  const repository = z.string().check(atMost(MAX_REPOSITORY, 'characters'));
  const ids = listSchema(id, MAX_ITEMS);
  return z.object({
    buildContext: contextSchema(limits).optional(),
    buildRepository: repository.optional(),
    cacheRepository: repository.optional(),
    freeze: z.boolean().optional(),
    mirror: z.boolean().optional(),
    nameStrategy: z.enum(['none', 'tagPrefix', 'imageSuffix']).optional(),
    buildCompression: z.preprocess(dropUnset, compressionSchema).optional(),
    buildTemplate: id.optional(),
    buildTag: z.string().regex(TAG, 'must be a tag: letters, digits, "_", "." and "-", at most 128').optional(),
    buildTimeout: timeoutSchema.optional(),
    buildArgs: textMapSchema.optional(),
    buildTarget: id.optional(),
    buildLabels: textMapSchema.optional(),
    buildSecrets: ids.optional(),
    buildSsh: ids.optional(),
    buildNetwork: z.enum(['default', 'none', 'host']).optional(),
    buildAttestations: z.preprocess(dropUnset, attestationFields).optional(),
  });
}

/** The fields that describe a build, and those of each object among them. */
export const BUILD_KEYS = {
  build: Object.keys(buildFields({ maxContainerFileCharacters: 0, maxLocationCharacters: 0 }).shape),
  packages: Object.keys(packagesFields.shape),
  compression: Object.keys(compressionSchema.shape),
  attestations: Object.keys(attestationFields.shape),
} as const satisfies Readonly<Record<string, readonly string[]>>;

/** Clients encode with and without padding, some with line breaks. */
function decodeBase64(text: string, context: z.core.$RefinementCtx): string {
  const compact = text.replace(/\s/g, '');
  const bytes = Buffer.from(compact, 'base64');
  const isWhole = bytes.toString('base64').replaceAll('=', '') === compact.replaceAll('=', '');
  const decoded = isWhole ? decodeUtf8(bytes) : undefined;
  if (decoded !== undefined) return decoded;
  context.addIssue({ code: 'custom', message: 'must be base64 of UTF-8 text' });
  return z.NEVER;
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
