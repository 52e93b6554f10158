// The record of a token: one image with its augmentation, as decided when the token was issued; the image may still be building.
import { z } from 'zod';
import { augmentationSchema, stepSchema } from '../../augment/augmentation.ts';
import { layerSourceSchema } from '../../augment/layer-source.ts';
import { buildIdSchema } from '../../builds/record.ts';
import { isDigest } from '../../oci/digest.ts';
import { scanDemandSchema } from '../../scans/record.ts';

const digest = z.string().refine(isDigest, 'expected a digest');
const strings = z.array(z.string()).optional();
const stringMap = z.record(z.string(), z.string()).optional();

const shownLayerSchema = z.object({
  /** Without layer data, user info and query: only "data:", or scheme, host and path. */
  location: z.string(),
  gzipDigest: z.string().optional(),
  gzipSize: z.number().optional(),
  tarDigest: z.string().optional(),
  skipHashing: z.boolean().optional(),
  platforms: strings,
  mediaType: z.string().optional(),
});

/** The client's request, for display: without layer data, access tokens or secret URLs. */
const shownRequestSchema = z.object({
  containerPlatform: z.string().optional(),
  containerIncludes: strings,
  containerConfig: z
    .object({
      entrypoint: strings,
      cmd: strings,
      env: strings,
      workingDir: z.string().optional(),
      user: z.string().optional(),
      labels: stringMap,
      exposedPorts: strings,
      annotations: stringMap,
      layers: z.array(shownLayerSchema).optional(),
    })
    .optional(),
  towerWorkspaceId: z.number().optional(),
  workflowId: z.string().optional(),
  fingerprint: z.string().optional(),
  buildRepository: z.string().optional(),
  cacheRepository: z.string().optional(),
  /** The offset of the client's clock, such as `+01:00` or `Z`. */
  zoneId: z.string().optional(),
  /** Of the layer with Fusion, as its address has it. */
  fusionVersion: z.string().optional(),
});

/** The token, and the id of its request: 24 lower-case hex characters, of older versions 12. */
export const tokenIdSchema = z.string().regex(/^(?:[0-9a-f]{12}){1,2}$/);

/** Whether it is too long to be guessed, unlike those of older versions. */
export function isLongTokenId(id: string): boolean {
  return id.length === 24;
}

export const tokenRecordSchema = z.object({
  id: tokenIdSchema,
  registry: z.string(),
  /** As named in the source registry: with `library/` for Docker Hub. */
  repository: z.string(),
  /** Absent where the request named a digest. */
  tag: z.string().optional(),
  /** As requested by the client. */
  containerImage: z.string(),
  /** The build or copy that makes the source or, if frozen, the image itself. */
  buildId: buildIdSchema.optional(),
  /** Whether this request started that build. */
  isBuildNew: z.boolean().optional(),
  /** For a frozen or mirrored image: its name in the build repository. The token then only serves its status. */
  frozenImage: z.string().optional(),
  /** Of the frozen image: for Singularity; absent: for docker and OCI. */
  format: z.literal('sif').optional(),
  /** Whether it is an unchanged mirror. */
  isMirrored: z.boolean().optional(),
  /** Whether it is from a dry run. */
  isDryRun: z.boolean().optional(),
  /** Absent where a build was still making the source: the build's record has it afterwards. */
  sourceDigest: digest.optional(),
  /** Absent like that of the source. */
  targetDigest: digest.optional(),
  /** The steps of the rules at its submit, applied first. Absent: none. */
  ruleSteps: z.array(stepSchema).readonly().optional(),
  augmentation: augmentationSchema,
  /** For all layers, including those of the rules. */
  layerSources: z.array(layerSourceSchema).readonly(),
  request: shownRequestSchema,
  /** Absent: no scan was requested. */
  scan: scanDemandSchema.optional(),
  /** The subject of the requester, whose rights it has; empty: anonymous. Absent for tokens of an older version. */
  caller: z.string().optional(),
  /** Those of the grants' networks that its request came from. */
  callerNetworks: strings,
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  /** For a token of a workflow: each use extends it, up to this time. */
  renewUntil: z.iso.datetime().optional(),
});

export type ShownRequest = z.infer<typeof shownRequestSchema>;
export type TokenRecord = z.infer<typeof tokenRecordSchema>;
/** A record before the ledger assigns its id and times. */
export type NewTokenRecord = Omit<TokenRecord, 'id' | 'createdAt' | 'expiresAt' | 'renewUntil'>;
