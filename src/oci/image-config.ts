// Image configs: the JSON that runs a container. image-spec config.md. For reading only: edits are made on the raw JSON.
import { z } from 'zod';
import { listSchema } from './bounded.ts';
import { RegistryError } from './errors.ts';
import { DOCUMENT_LIMITS, describeFault, InvalidJson, parseJson } from './json.ts';
import type { Platform } from './platform.ts';

/** The largest config that we read, in bytes. */
export const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

const text = z.string().nullish();
const optional = text.transform(value => value ?? undefined);
const strings = listSchema(
  text.transform(value => value ?? ''),
  DOCUMENT_LIMITS.maxValues,
).nullish();
/** Docker's engine accepts a single string for a list. */
const words = z.union([strings, z.string().transform(word => [word])]);

/** Null counts as absent, as in Go clients. */
export const imageConfigSchema = z.object({
  os: text.transform(os => os ?? 'linux'),
  architecture: text.transform(architecture => architecture ?? ''),
  variant: optional,
  created: z
    .unknown()
    .optional()
    .transform(created => (typeof created === 'string' ? created : undefined)),
  config: z
    .object({
      Env: strings,
      Entrypoint: words,
      Cmd: words,
      WorkingDir: text,
      User: text,
      Labels: z
        .record(
          z.string(),
          text.transform(value => value ?? ''),
        )
        .nullish(),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
    })
    .nullish(),
  rootfs: z.object({ type: optional, diff_ids: z.array(z.string()).nullish() }),
  history: z
    .array(
      z
        .object({ empty_layer: z.boolean().nullish() })
        .nullish()
        .transform(entry => entry ?? {}),
    )
    .nullish(),
});

export type ImageConfig = z.infer<typeof imageConfigSchema>;

/** Throws MANIFEST_INVALID when the bytes are not an image config, and names the field. */
export function parseImageConfig(raw: Uint8Array): ImageConfig {
  const { data, error } = imageConfigSchema.safeParse(parse(raw));
  if (data) return data;
  throw invalid(describeFault(error), error);
}

function parse(raw: Uint8Array): unknown {
  try {
    return parseJson(raw);
  } catch (cause) {
    if (!(cause instanceof InvalidJson)) throw cause;
    throw invalid(`it ${cause.message}`, cause);
  }
}

function invalid(reason: string, cause: unknown): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `invalid image config: ${reason}`, { cause });
}

export function configPlatform(config: ImageConfig): Platform {
  return { os: config.os, architecture: config.architecture, ...(config.variant && { variant: config.variant }) };
}
