// The record of a build, from its submission until its retention ends.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';
import { specSchema } from './spec.ts';

/** `bd-<16 hex>_<n>` for a build, `mr-…` for a plain copy: the hex is derived from the spec, n counts its attempts from 1. */
export const buildIdSchema = z.string().regex(/^(?:bd|mr)-[0-9a-f]{16}_[1-9]\d{0,8}$/);

const failureSchema = z.object({
  /**
   * `build`: the Containerfile's own fault. `infrastructure`: a builder or registry failed. `lost`: the service crashed too often while
   * only it ran.
   */
  kind: z.enum(['build', 'infrastructure', 'timeout', 'cancelled', 'lost']),
  /** One line, without secrets. */
  reason: z.string(),
  platform: z.string().optional(),
  /** The instruction, such as `RUN make`. */
  step: z.string().optional(),
});

export const buildRecordSchema = z.object({
  id: buildIdSchema,
  spec: specSchema,
  status: z.enum(['queued', 'running', 'succeeded', 'failed']),
  /** The target's full name with its tag: `local/builds:0123456789abcdef`. */
  image: z.string(),
  /** The subject of the first submitter; empty: anonymous. */
  caller: z.string(),
  /** Whether it was started by a pull, through a recipe: everyone who may pull the image may see it. */
  isShared: z.boolean().optional(),
  /** Builds of a higher priority start first; default: 0. */
  priority: z.int(),
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime().optional(),
  endedAt: z.iso.datetime().optional(),
  /** How often it was started: crashes and failed builders cause restarts. */
  starts: z.int().nonnegative(),
  /** The names of the backends that worked on it. */
  backends: z.array(z.string()).readonly().default([]),
  /** The digest of the pushed manifest or index. */
  digest: z.string().refine(isDigest, 'expected a digest').optional(),
  /** For a successful copy: the platforms of its index. */
  platforms: z.array(z.string()).readonly().optional(),
  failure: failureSchema.optional(),
  /** For a build of packages: the template, and the text of conda's environment. */
  packages: z.object({ template: z.string(), environment: z.string().optional() }).optional(),
});

export type Failure = z.infer<typeof failureSchema>;
export type PackagesRecord = NonNullable<z.infer<typeof buildRecordSchema>['packages']>;
export type BuildRecord = z.infer<typeof buildRecordSchema>;
