// The key `builds.recipes`: which missing images are built when they are pulled, and from what.
import { z } from 'zod';
import { duration, MAX_TIMER_MS, platform } from './values.ts';

const textMap = z.record(z.string().min(1).max(128), z.string().max(65_536));

export function recipesSchema() {
  return z
    .array(
      z
        .strictObject({
          /** `local/tools/{name}:{version}`. */
          match: z.string().min(1).max(512),
          /** Paths, relative to the working directory. */
          containerFile: z.string().min(1),
          context: z.string().min(1).optional(),
          args: textMap.default({}),
          labels: textMap.default({}),
          stage: z.string().min(1).optional(),
          platforms: z.array(platform()).min(1).optional(),
          secrets: z.array(z.string()).default([]),
          ssh: z.array(z.string()).default([]),
          network: z.enum(['default', 'none', 'host']).default('default'),
          sbom: z.boolean().default(false),
          provenance: z.enum(['none', 'min', 'max']).default('none'),
          /** Absent: what was built stays. */
          ttl: duration({ minMs: 1000 }).optional(),
          timeout: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).optional(),
        })
        .transform(({ ttl, timeout, sbom, provenance, ...rest }) => ({
          ...rest,
          attestations: { sbom, provenance },
          ttlMs: ttl,
          timeoutMs: timeout,
        })),
    )
    .max(1000)
    .default([]);
}
