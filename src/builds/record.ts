// The record of a build, from its submission until its retention ends.
import { z } from 'zod';
import { isDigest } from '../oci/digest.ts';
import { specSchema } from './spec.ts';

/** `bd-<16 hex>_<n>` of a build, `mr-…` of a plain copy: the hex is of the spec, n counts the attempts at it from 1. */
export const buildIdSchema = z.string().regex(/^(?:bd|mr)-[0-9a-f]{16}_[1-9]\d{0,8}$/);

const failureSchema = z.object({
  /** `build`: the Containerfile's own fault. `infrastructure`: a builder or registry failed. `lost`: the service crashed too often while only it ran. */
  kind: z.enum(['build', 'infrastructure', 'timeout', 'cancelled', 'lost']),
  /** One line for people, without secrets. */
  reason: z.string(),
  platform: z.string().optional(),
  /** As the Containerfile has it, such as `RUN make`. */
  step: z.string().optional(),
});

export const buildRecordSchema = z.object({
  id: buildIdSchema,
  spec: specSchema,
  status: z.enum(['queued', 'running', 'succeeded', 'failed']),
  /** The target's full name with its tag: `local/builds:0123456789abcdef`. */
  image: z.string(),
  /** Who submitted it first; empty: anonymous. */
  caller: z.string(),
  /** Whether it was begun for a pull, by a recipe: then it is for whoever may pull the image. */
  isShared: z.boolean().optional(),
  /** Builds of a higher priority start first; default: 0. */
  priority: z.int(),
  createdAt: z.iso.datetime(),
  startedAt: z.iso.datetime().optional(),
  endedAt: z.iso.datetime().optional(),
  /** How often it was started: it is started again after a crash or a failed builder. */
  starts: z.int().nonnegative(),
  /** The names of the backends that worked on it. */
  backends: z.array(z.string()).readonly().default([]),
  /** Of the pushed root. */
  digest: z.string().refine(isDigest, 'expected a digest').optional(),
  /** Of a copy that has succeeded: the platforms that its index names. */
  platforms: z.array(z.string()).readonly().optional(),
  failure: failureSchema.optional(),
  /** Of a build of packages: the template, and the text of the environment that conda was given. */
  packages: z.object({ template: z.string(), environment: z.string().optional() }).optional(),
});

export type Failure = z.infer<typeof failureSchema>;
export type PackagesRecord = NonNullable<z.infer<typeof buildRecordSchema>['packages']>;
export type BuildRecord = z.infer<typeof buildRecordSchema>;
