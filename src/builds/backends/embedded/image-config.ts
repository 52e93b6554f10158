// The config of an image being built: the runtime fields of image-spec config.md, and docker's additions.
import { z } from 'zod';
import { createDocument, type Document } from '../../../augment/document.ts';
import { toJson } from '../../../augment/json.ts';
import type { Digest } from '../../../oci/digest.ts';
import { parseJson } from '../../../oci/json.ts';
import { mediaTypes } from '../../../oci/media-type.ts';
import type { Platform } from '../../../oci/platform.ts';
import { InvalidStep } from './step.ts';

const DEFAULT_PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

const strings = z.array(z.string()).nullish();
const keys = z.record(z.string(), z.unknown()).nullish();

const healthcheckSchema = z.object({
  Test: strings,
  Interval: z.number().optional(),
  Timeout: z.number().optional(),
  StartPeriod: z.number().optional(),
  StartInterval: z.number().optional(),
  Retries: z.number().optional(),
});

const runSchema = z.object({
  User: z.string().nullish(),
  ExposedPorts: keys,
  Env: strings,
  Entrypoint: strings,
  Cmd: strings,
  Healthcheck: healthcheckSchema.nullish(),
  Volumes: keys,
  WorkingDir: z.string().nullish(),
  OnBuild: strings,
  Labels: z.record(z.string(), z.string()).nullish(),
  StopSignal: z.string().nullish(),
  Shell: strings,
});

const historySchema = z.object({
  created: z.string().nullish(),
  created_by: z.string().optional(),
  comment: z.string().optional(),
  author: z.string().optional(),
  empty_layer: z.boolean().optional(),
});

const stateSchema = z.object({
  author: z.string().optional(),
  config: runSchema.nullish(),
  history: z.array(historySchema).nullish(),
});

/** How a container of the image runs. */
export type Run = z.infer<typeof runSchema>;
type History = z.infer<typeof historySchema>;

export interface ImageState {
  readonly author: string | undefined;
  readonly run: Run;
  readonly history: readonly History[];
}

/** The initial config of an image without a base. */
export const emptyState: ImageState = { author: undefined, run: { WorkingDir: '/', Env: [DEFAULT_PATH] }, history: [] };

/** Throws InvalidStep for an invalid config. */
export function parseState(raw: Uint8Array): ImageState {
  const parsed = stateSchema.safeParse(findJson(raw));
  if (!parsed.success) throw new InvalidStep('the base image has an invalid image config');
  const { author, config, history } = parsed.data;
  return { author, run: withPath(config ?? {}), history: history ?? [] };
}

/** An image always has a PATH once something is built on it. */
function withPath(run: Run): Run {
  const env = run.Env ?? [];
  return env.some(entry => entry.startsWith('PATH=')) ? run : { ...run, Env: [...env, DEFAULT_PATH] };
}

function findJson(raw: Uint8Array): unknown {
  try {
    return parseJson(raw);
  } catch {
    return undefined;
  }
}

/** Throws RegistryError for one that registries would reject. */
export function encodeState(
  { author, run, history }: ImageState,
  {
    platform,
    diffIds,
    created,
  }: {
    readonly platform: Platform;
    readonly diffIds: readonly Digest[];
    /** RFC 3339, of the image and of all steps. */
    readonly created: string;
  },
): Document {
  const { os, architecture, variant } = platform;
  const config = {
    ...(author !== undefined && { author }),
    created,
    ...{ architecture, ...(variant && { variant }), os },
    config: withoutEmpty(run),
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: history.map(entry => ({ created, ...entry })),
  };
  return createDocument(mediaTypes.ociConfig, toJson(config));
}

/** Docker and BuildKit omit empty values; an empty command means no command. */
function withoutEmpty(run: Run): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(run).filter(([, value]) => {
      if (value === null || value === undefined || value === '') return false;
      return !(Array.isArray(value)
        ? value.length === 0
        : typeof value === 'object' && Object.keys(value).length === 0);
    }),
  );
}
