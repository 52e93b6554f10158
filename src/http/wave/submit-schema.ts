// The submit request of the augment API. Clients send null for unset fields, and unknown keys: both count as absent.
import { z } from 'zod';
import { OPTION_KEYS } from '../../builds/packages/request.ts';
import { atMost, listSchema } from '../../oci/bounded.ts';
import { RegistryError } from '../../oci/errors.ts';
import { InvalidPlatform, type Platform, parsePlatforms } from '../../oci/platform.ts';
import { parseReference } from '../../oci/reference.ts';
import { findSimilar } from '../../oci/wording.ts';
import { SCAN_LEVELS } from '../../scans/record.ts';
import { ApiError } from '../../submit/errors.ts';
import type { SubmitRequest, SubmitSource } from '../../submit/request.ts';
import { BUILD_KEYS, type BuildLimits, createBuildSchema, fileSchema, packagesSchema } from './build-schema.ts';
import { CONFIG_KEYS, createConfigSchema, dropUnset, LAYER_KEYS, wholeNumberSchema } from './config-schema.ts';
import { describeFault } from './json-body.ts';

export interface SubmitLimits extends BuildLimits {
  /** The maximum number of containerIncludes. */
  readonly maxIncludes: number;
}

const MAX_SCAN_LEVELS = 100;

/** In characters, for text that is stored or parsed. */
const MAX_SHORT_TEXT = 1024;

/** checkImage validates its syntax. */
export const imageSchema = z.string().check(atMost(MAX_SHORT_TEXT, 'characters'));

/** Throws ApiError naming field and rule: 400 for an invalid request, 501 for what this version does not support. */
type ParseSubmit = (body: unknown) => SubmitRequest;

/** The schemas are made once, for the first request: making them takes longer than parsing. */
export function createParseSubmit(limits: SubmitLimits): ParseSubmit {
  let schemas: SubmitSchemas | undefined;
  return body => {
    schemas ??= { submit: createSubmitSchema(limits), build: createBuildSchema(limits) };
    return parseSubmit(body, schemas);
  };
}

interface SubmitSchemas {
  readonly submit: ReturnType<typeof createSubmitSchema>;
  readonly build: ReturnType<typeof createBuildSchema>;
}

function parseSubmit(body: unknown, schemas: SubmitSchemas): SubmitRequest {
  const {
    format,
    scanMode,
    containerIncludes = [],
    dryRun = false,
    timestamp,
    scanLevels = [],
    ...fields
  } = check(schemas.submit, body);
  const build = check(schemas.build, body);
  const { containerPlatform, containerConfig, towerWorkspaceId, workflowId, fingerprint } = fields;
  const source = chooseSource(fields);
  if (source.kind === 'image') checkImage('containerImage', source.image);
  for (const [at, image] of containerIncludes.entries()) checkImage(`containerIncludes[${at}]`, image);
  const isPlain = source.kind === 'image' && containerConfig === undefined && containerIncludes.length === 0;
  if (build.mirror && !isPlain) throw new ApiError(400, `mirror: ${MIRRORED}`);
  const platforms = containerPlatform === undefined ? undefined : toPlatforms(containerPlatform);
  const image = { source, containerPlatform, platforms, containerConfig, containerIncludes };
  const zoneId = zoneOf(timestamp);
  const warnings = listUnknownKeys(body);
  const scan = { scanMode: scanMode === 'none' ? undefined : scanMode, scanLevels };
  return {
    ...image,
    towerWorkspaceId,
    workflowId,
    fingerprint,
    zoneId,
    dryRun,
    build: { ...build, ...(format === 'sif' && { format }) },
    ...scan,
    warnings,
  };
}

const MIRRORED = 'copies an image as it is: it takes containerImage, and neither containerConfig nor containerIncludes';

function check<T>(schema: z.ZodType<T>, body: unknown): T {
  const { data, error } = schema.safeParse(body);
  if (error) throw new ApiError(400, describeFault(error), { cause: error });
  return data;
}

export function createSubmitSchema(limits: SubmitLimits) {
  return z.preprocess(dropUnset, submitFields(limits));
}

function submitFields(limits: SubmitLimits) {
  const text = z.string().optional();
  const shortText = z.string().check(atMost(MAX_SHORT_TEXT, 'characters')).optional();
  const file = fileSchema(limits).optional();
  return z.object({
    towerAccessToken: text,
    towerRefreshToken: text,
    towerEndpoint: text,
    towerWorkspaceId: wholeNumberSchema.optional(),
    containerImage: imageSchema.optional(),
    containerFile: file,
    condaFile: file,
    packages: packagesSchema(),
    containerConfig: createConfigSchema(limits).optional(),
    containerPlatform: shortText,
    containerIncludes: listSchema(imageSchema, limits.maxIncludes).optional(),
    timestamp: text,
    fingerprint: shortText,
    workflowId: shortText,
    dryRun: z.boolean().optional(),
    format: z.enum(['docker', 'sif']).optional(),
    scanMode: z.enum(['none', 'async', 'required']).optional(),
    scanLevels: listSchema(z.enum(SCAN_LEVELS), MAX_SCAN_LEVELS).optional(),
  });
}

/** The UTC offset of the client's clock, as at the end of a timestamp with nanoseconds. */
function zoneOf(timestamp = ''): string | undefined {
  return /[+-]\d\d:\d\d$/.exec(timestamp)?.[0] ?? (timestamp.endsWith('Z') ? 'Z' : undefined);
}

// Unknown fields: other versions of clients send some at the top level, while misspelt names of ours must be reported.

const SUBMIT_KEYS = [
  ...Object.keys(submitFields({ maxIncludes: 0, maxContainerFileCharacters: 0, maxLocationCharacters: 0 }).shape),
  ...BUILD_KEYS.build,
];
const MAX_WARNINGS = 20;
const MAX_KEY = 80;
/** At most this many unknown keys are compared with ours. */
const MAX_COMPARED = 100;

/** In nested objects every unknown key, at the top level those that resemble one of ours. */
function listUnknownKeys(body: unknown): readonly string[] {
  const found = [...findUnknownKeys(body).take(MAX_WARNINGS + 1)];
  return found.length > MAX_WARNINGS ? [...found.slice(0, MAX_WARNINGS), 'and more fields are unknown'] : found;
}

function* findUnknownKeys(body: unknown): Generator<string, undefined> {
  yield* misspeltKeys(body);
  const { containerConfig, packages, buildCompression, buildAttestations, buildContext } = entriesOf(body);
  yield* unknownKeys(containerConfig, CONFIG_KEYS, 'containerConfig.');
  const { layers } = entriesOf(containerConfig);
  for (const [at, layer] of (Array.isArray(layers) ? layers : []).entries())
    yield* unknownKeys(layer, LAYER_KEYS, `containerConfig.layers[${at}].`);
  yield* unknownKeys(packages, BUILD_KEYS.packages, 'packages.');
  for (const [name, known] of Object.entries(OPTION_KEYS))
    yield* unknownKeys(entriesOf(packages)[name], known, `packages.${name}.`);
  yield* unknownKeys(buildCompression, BUILD_KEYS.compression, 'buildCompression.');
  yield* unknownKeys(buildAttestations, BUILD_KEYS.attestations, 'buildAttestations.');
  yield* misspeltContext(buildContext);
}

function* misspeltKeys(body: unknown): Generator<string> {
  const unknown = Object.keys(entriesOf(body)).filter(key => !SUBMIT_KEYS.includes(key));
  for (const key of unknown.slice(0, MAX_COMPARED)) {
    if (findSimilar(key, SUBMIT_KEYS) !== undefined) yield describeUnknownKey(key, SUBMIT_KEYS, '');
  }
}

/** A layer with a key that layers do not have is read as a map of files: probably not what was meant, if its location is an address. */
function* misspeltContext(context: unknown): Generator<string> {
  const { location } = entriesOf(context);
  if (typeof location !== 'string' || !/^(?:data:|[a-z]+:\/\/)/i.test(location)) return;
  const unknown = Object.keys(entriesOf(context)).find(key => !LAYER_KEYS.includes(key));
  if (unknown !== undefined)
    yield `buildContext: was taken as a map of files, since no layer has "${unknown.slice(0, MAX_KEY)}"; ${hintFor(unknown, LAYER_KEYS)}`;
}

function entriesOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {};
}

function* unknownKeys(value: unknown, known: readonly string[], path: string): Generator<string> {
  for (const key of Object.keys(entriesOf(value))) if (!known.includes(key)) yield describeUnknownKey(key, known, path);
}

function describeUnknownKey(key: string, known: readonly string[], path: string): string {
  return `${path}${key.slice(0, MAX_KEY)}: this field is unknown and was ignored; ${hintFor(key, known)}`;
}

function hintFor(key: string, known: readonly string[]): string {
  const similar = findSimilar(key, known);
  return similar === undefined ? `known are ${known.join(', ')}` : `did you mean ${similar}?`;
}

type SubmitFields = z.infer<ReturnType<typeof createSubmitSchema>>;
type SourceFields = Pick<SubmitFields, 'containerImage' | 'containerFile' | 'condaFile' | 'packages'>;

function chooseSource({ containerImage, containerFile, condaFile, packages }: SourceFields): SubmitSource {
  const given: readonly (readonly [string, SubmitSource])[] = [
    ...(containerImage === undefined ? [] : [['containerImage', { kind: 'image', image: containerImage }] as const]),
    ...(containerFile === undefined ? [] : [['containerFile', { kind: 'file', containerFile }] as const]),
    ...(condaFile === undefined
      ? []
      : [['condaFile', { kind: 'packages', packages: condaPackages(condaFile) }] as const]),
    ...(packages === undefined ? [] : [['packages', { kind: 'packages', packages }] as const]),
  ];
  const [[, source] = [], ...others] = given;
  if (source && others.length === 0) return source;
  const found = source ? `${given.map(([name]) => name).join(' and ')} were given` : 'none was given';
  throw new ApiError(400, `exactly one of containerImage, containerFile, condaFile and packages is needed: ${found}`);
}

/** What older clients send for an environment file. */
function condaPackages(condaFile: string) {
  return { type: 'CONDA', environment: Buffer.from(condaFile).toString('base64') };
}

/** Throws ApiError for a name with a protocol or invalid syntax. */
export function checkImage(field: string, image: string): void {
  if (image.includes('://')) throw new ApiError(400, `${field}: an image name takes no prefix such as docker://`);
  try {
    parseReference(image);
  } catch (error) {
    if (error instanceof RegistryError) throw new ApiError(400, `${field}: ${error.message}`, { cause: error });
    throw error;
  }
}

function toPlatforms(text: string): readonly Platform[] {
  try {
    // Some clients end a list with a comma.
    return parsePlatforms(text.trimEnd().replace(/,$/, ''));
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    throw new ApiError(400, `containerPlatform: ${error.message}`, { cause: error });
  }
}
