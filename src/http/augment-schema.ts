// The submit request of the augment API. Clients send null for what is unset and keys that we do not know: both are as if absent.
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { InvalidPlatform, type Platform, parsePlatforms } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import { ApiError } from './api-error.ts';
import { atMost, type ContainerConfig, createConfigSchema, dropUnset, wholeNumberSchema } from './config-schema.ts';

export interface SubmitLimits {
  /** Of each layer's location, in characters. */
  readonly maxLocationCharacters: number;
  /** How many containerIncludes there may be. */
  readonly maxIncludes: number;
}

export interface SubmitRequest {
  /** As asked; parseReference takes it. */
  readonly containerImage: string;
  /** As asked. */
  readonly containerPlatform: string | undefined;
  /** Undefined: all platforms of the image. */
  readonly platforms: readonly Platform[] | undefined;
  /** Undefined where nothing in it is set. */
  readonly containerConfig: ContainerConfig | undefined;
  readonly containerIncludes: readonly string[];
  readonly towerWorkspaceId: number | undefined;
  readonly workflowId: string | undefined;
  readonly fingerprint: string | undefined;
  readonly dryRun: boolean;
}

/** In characters, of text that is stored or parsed. */
const MAX_SHORT_TEXT = 1024;

/** Throws ApiError naming field and rule: 400 for a request that breaks one, 501 for what this version does not do. */
export function parseSubmit(body: unknown, limits: SubmitLimits): SubmitRequest {
  const parsed = createSubmitSchema(limits).safeParse(body);
  if (!parsed.success) throw new ApiError(400, describe(parsed.error), { cause: parsed.error });
  const request = parsed.data;
  const containerImage = chooseImage(request);
  refuseUnsupported(request);
  checkImage('containerImage', containerImage);
  const containerIncludes = request.containerIncludes ?? [];
  for (const [at, image] of containerIncludes.entries()) checkImage(`containerIncludes[${at}]`, image);
  return {
    containerImage,
    containerPlatform: request.containerPlatform,
    platforms: request.containerPlatform === undefined ? undefined : toPlatforms(request.containerPlatform),
    containerConfig: request.containerConfig,
    containerIncludes,
    towerWorkspaceId: request.towerWorkspaceId,
    workflowId: request.workflowId,
    fingerprint: request.fingerprint,
    dryRun: request.dryRun ?? false,
  };
}

function createSubmitSchema(limits: SubmitLimits) {
  const text = z.string().optional();
  const shortText = z.string().check(atMost(MAX_SHORT_TEXT, 'characters')).optional();
  const fields = z.object({
    towerAccessToken: text,
    towerRefreshToken: text,
    towerEndpoint: text,
    towerWorkspaceId: wholeNumberSchema.optional(),
    containerImage: text,
    containerFile: text,
    condaFile: text,
    packages: z.preprocess(dropUnset, z.looseObject({})).optional(),
    containerConfig: createConfigSchema(limits).optional(),
    containerPlatform: shortText,
    containerIncludes: z.array(z.string()).check(atMost(limits.maxIncludes, 'items')).optional(),
    buildRepository: text,
    cacheRepository: text,
    timestamp: text,
    fingerprint: shortText,
    workflowId: shortText,
    freeze: z.boolean().optional(),
    mirror: z.boolean().optional(),
    dryRun: z.boolean().optional(),
    format: z.enum(['docker', 'sif']).optional(),
    nameStrategy: z.enum(['none', 'tagPrefix', 'imageSuffix']).optional(),
    scanMode: z.enum(['none', 'async', 'required']).optional(),
  });
  return z.preprocess(dropUnset, fields);
}

type SubmitFields = z.infer<ReturnType<typeof createSubmitSchema>>;

function chooseImage(request: SubmitFields): string {
  const { containerImage, containerFile, condaFile, packages } = request;
  const hasPackages = packages !== undefined && Object.keys(packages).length > 0;
  const given = Object.entries({ containerImage, containerFile, condaFile, packages: hasPackages || undefined })
    .filter(([, value]) => value !== undefined)
    .map(([name]) => name);
  if (given.length !== 1) {
    const found = given.length === 0 ? 'none was given' : `${given.join(' and ')} were given`;
    throw new ApiError(400, `exactly one of containerImage, containerFile, condaFile and packages is needed: ${found}`);
  }
  if (containerImage === undefined) throw unsupported(given.join());
  return containerImage;
}

function refuseUnsupported({ freeze, mirror, format, scanMode }: SubmitFields): void {
  if (freeze) throw unsupported('freeze');
  if (mirror) throw unsupported('mirror');
  if (format === 'sif') throw unsupported('format "sif"');
  if (scanMode && scanMode !== 'none') throw unsupported(`scanMode "${scanMode}"`);
}

function unsupported(what: string): ApiError {
  return new ApiError(
    501,
    `${what} is not supported yet: this version augments an image that exists, named by containerImage, and serves it by a token`,
  );
}

/** Throws ApiError for a name with a protocol or out of grammar. */
export function checkImage(field: string, image: string): void {
  if (image.includes('://'))
    throw new ApiError(400, `${field}: an image name takes no protocol prefix such as docker://`);
  try {
    parseReference(image);
  } catch (error) {
    if (error instanceof RegistryError) throw new ApiError(400, `${field}: ${error.message}`, { cause: error });
    throw error;
  }
}

function toPlatforms(text: string): readonly Platform[] {
  try {
    return parsePlatforms(text);
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    throw new ApiError(400, `containerPlatform: ${error.message}`, { cause: error });
  }
}

/** The first fault, such as "containerConfig.env[2]: must be KEY=VALUE with a non-empty key". */
function describe(error: z.ZodError): string {
  const { path = [], message = 'invalid' } = error.issues[0] ?? {};
  if (path.length === 0) return 'the body must be a JSON object';
  const field = path.map((step, at) =>
    typeof step === 'number' ? `[${step}]` : `${at > 0 ? '.' : ''}${String(step)}`,
  );
  return `${field.join('').slice(0, 200)}: ${message}`;
}
