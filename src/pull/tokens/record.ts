// What a token stands for: one image with its augmentation, as it was decided when the token was given out; the image may still be building.
import { z } from 'zod';
import { augmentationSchema, stepSchema } from '../../augment/augmentation.ts';
import { layerSourceSchema } from '../../augment/layer-source.ts';
import { buildIdSchema } from '../../builds/record.ts';
import { isDigest } from '../../oci/digest.ts';

const digest = z.string().refine(isDigest, 'expected a digest');
const strings = z.array(z.string()).optional();
const stringMap = z.record(z.string(), z.string()).optional();

const shownLayerSchema = z.object({
  /** Without layer data, user info and query: "data:" alone, or scheme, host and path. */
  location: z.string(),
  gzipDigest: z.string().optional(),
  gzipSize: z.number().optional(),
  tarDigest: z.string().optional(),
  skipHashing: z.boolean().optional(),
  platforms: strings,
  mediaType: z.string().optional(),
});

/** The client's request, for showing: it holds no layer data, access token or secret URL. */
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
});

/** The token, and the id of its request: 24 lower-case hex characters, of older versions 12. */
export const tokenIdSchema = z.string().regex(/^(?:[0-9a-f]{12}){1,2}$/);

/** Whether it is too long to be guessed, as those of older versions are not. */
export function isLongTokenId(id: string): boolean {
  return id.length === 24;
}

export const tokenRecordSchema = z.object({
  id: tokenIdSchema,
  registry: z.string(),
  /** As the source registry names it: Docker Hub's with `library/`. */
  repository: z.string(),
  /** Absent where the request named a digest. */
  tag: z.string().optional(),
  /** As the client asked for it. */
  containerImage: z.string(),
  /** The build or copy that makes the source, or where it is frozen, the image itself. */
  buildId: buildIdSchema.optional(),
  /** Of a frozen or mirrored image: what it is called in the build repository. The token is then for its status alone. */
  frozenImage: z.string().optional(),
  /** Whether it is frozen as it was. */
  isMirrored: z.boolean().optional(),
  /** Whether nothing is made for it. */
  isDryRun: z.boolean().optional(),
  /** Absent where a build makes the source that was not there yet: the build's record has it in the end. */
  sourceDigest: digest.optional(),
  /** Absent as the source's is. */
  targetDigest: digest.optional(),
  /** What the rules of its submit make of the image first. Absent: none. */
  ruleSteps: z.array(stepSchema).readonly().optional(),
  augmentation: augmentationSchema,
  /** Of all layers, those of the rules too. */
  layerSources: z.array(layerSourceSchema).readonly(),
  request: shownRequestSchema,
  /** The subject of who asked for it, whose rights it has; empty: nobody known. Absent where an older version gave it out. */
  caller: z.string().optional(),
  /** Those of the grants' networks that its request came from. */
  callerNetworks: strings,
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
});

export type ShownRequest = z.infer<typeof shownRequestSchema>;
export type TokenRecord = z.infer<typeof tokenRecordSchema>;
/** A record before the ledger gives it its id and times. */
export type NewTokenRecord = Omit<TokenRecord, 'id' | 'createdAt' | 'expiresAt'>;
