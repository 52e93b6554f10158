// The options of `veneer build` alone, checked while they are read. Each parser throws InvalidArgumentError, which the command line shows.
import { InvalidArgumentError } from 'commander';
import { compressionSchema } from '../builds/spec.ts';
import { duration } from '../config/values.ts';

export interface CompressionOption {
  readonly mode: string;
  readonly level?: number | undefined;
}

const { mode: modeSchema, level: levelSchema } = compressionSchema.shape;

/** `mode` or `mode:level`. */
export function parseCompression(text: string): CompressionOption {
  const [, mode, level] = /^([a-z]+)(?::(\d{1,2}))?$/.exec(text) ?? [];
  const isKnown = modeSchema.safeParse(mode).success;
  const { data, success } = levelSchema.safeParse(level === undefined ? undefined : Number(level));
  if (mode !== undefined && isKnown && success) return { mode, level: data };
  throw new InvalidArgumentError(`expected ${modeSchema.options.join(', ')}, with a level such as zstd:3 if you like`);
}

/** As it is written. */
export function parseTimeout(text: string): string {
  const { error } = duration({ minMs: 1000 }).safeParse(text);
  if (error) throw new InvalidArgumentError(error.issues[0]?.message ?? '');
  return text;
}
