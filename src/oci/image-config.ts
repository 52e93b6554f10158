// Image configs: the JSON that runs a container. image-spec config.md. A look only: edits are made on the raw JSON.
import { z } from 'zod';
import { RegistryError } from './errors.ts';
import type { Platform } from './platform.ts';

/** The largest config that we read, in bytes. */
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

const strings = z.array(z.string()).nullish();

export const imageConfigSchema = z.object({
  os: z.string().default('linux'),
  architecture: z.string().default(''),
  variant: z.string().optional(),
  created: z.string().nullish(),
  config: z
    .object({
      Env: strings,
      Entrypoint: strings,
      Cmd: strings,
      WorkingDir: z.string().nullish(),
      User: z.string().nullish(),
      Labels: z.record(z.string(), z.string()).nullish(),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
    })
    .nullish(),
  rootfs: z.object({ type: z.string(), diff_ids: z.array(z.string()).nullish() }),
  history: z.array(z.object({ empty_layer: z.boolean().optional() })).nullish(),
});

export type ImageConfig = z.infer<typeof imageConfigSchema>;

/** Throws MANIFEST_INVALID when the bytes are no image config. */
export function parseImageConfig(raw: Uint8Array): ImageConfig {
  try {
    return imageConfigSchema.parse(JSON.parse(new TextDecoder().decode(raw)));
  } catch (cause) {
    throw new RegistryError('MANIFEST_INVALID', 'invalid image config: not JSON as image-spec config.md wants it', {
      cause,
    });
  }
}

export function configPlatform(config: ImageConfig): Platform {
  return { os: config.os, architecture: config.architecture, ...(config.variant && { variant: config.variant }) };
}
