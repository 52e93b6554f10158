// `packages` of a request, as sent by clients of the augment API: every field may be null, and unknown ones are ignored.
import { z } from 'zod';
import { listSchema } from '../../oci/bounded.ts';
import { RegistryError } from '../../oci/errors.ts';
import { parseReference } from '../../oci/reference.ts';
import { InvalidBuild } from '../request.ts';

const MAX_ITEMS = 500;
const MAX_WORD = 512;
/** In characters of base64. */
const MAX_ENVIRONMENT = 1024 * 1024;
const MAX_COMMAND = 16 * 1024;

/** Prevents injecting lines into a Containerfile, a script or a file. */
const ONE_LINE = /^[^\p{Cc}\u2028\u2029]+$/u;

const word = z.string().max(MAX_WORD).regex(ONE_LINE, 'one line without control characters is needed');
const text = word.nullish().transform(value => value ?? undefined);
const words = listSchema(word, MAX_ITEMS)
  .nullish()
  .transform(value => value ?? []);
const commands = listSchema(z.string().max(MAX_COMMAND).regex(ONE_LINE, 'one line is needed'), MAX_ITEMS)
  .nullish()
  .transform(value => value ?? []);
/** Words separated by spaces; an empty text means none, an absent one the default of the template. */
const list = z
  .string()
  .max(MAX_COMMAND)
  .nullish()
  .transform(value => value?.split(/\s+/).filter(item => item !== ''));

const options = { commands, basePackages: list };
const condaOpts = z.object({ ...options, mambaImage: text, baseImage: text });
const pixiOpts = z.object({ ...options, pixiImage: text, baseImage: text });
const cranOpts = z.object({ ...options, rImage: text });

const packagesSchema = z.object({
  type: z.enum(['CONDA', 'CRAN']),
  environment: z
    .string()
    .max(MAX_ENVIRONMENT)
    .nullish()
    .transform(value => value || undefined),
  entries: words,
  channels: words,
  condaOpts: condaOpts.nullish().transform(value => value ?? condaOpts.parse({})),
  pixiOpts: pixiOpts.nullish().transform(value => value ?? pixiOpts.parse({})),
  cranOpts: cranOpts.nullish().transform(value => value ?? cranOpts.parse({})),
});

/** The options that the templates of each kind take. */
export const OPTION_KEYS = {
  condaOpts: Object.keys(condaOpts.shape),
  pixiOpts: Object.keys(pixiOpts.shape),
  cranOpts: Object.keys(cranOpts.shape),
} as const;

/** Exactly one of `environment` and `entries` is given. */
export type PackagesRequest = z.output<typeof packagesSchema>;

/** Throws InvalidBuild, which names the field. */
export function parsePackages(packages: unknown): PackagesRequest {
  const parsed = packagesSchema.safeParse(packages);
  if (!parsed.success) {
    const { path = [], message = 'invalid' } = parsed.error.issues[0] ?? {};
    throw new InvalidBuild(`${['packages', ...path].join('.').slice(0, 200)}: ${message}`, { cause: parsed.error });
  }
  const { environment, entries } = parsed.data;
  if ((environment === undefined) === (entries.length === 0)) {
    throw new InvalidBuild('packages: exactly one of environment and entries is needed');
  }
  return parsed.data;
}

/** The decoded text of `environment`; a URL may be given as it is. Throws InvalidBuild. */
export function decodeEnvironment(environment: string): string {
  if (/^https?:\/\//.test(environment)) return environment;
  const bytes = Buffer.from(environment, 'base64');
  // Buffer skips invalid base64: only text that encodes back to itself is valid.
  if (bytes.toString('base64').replaceAll('=', '') !== environment.replaceAll(/[\s=]/g, '')) {
    throw new InvalidBuild('packages.environment: not base64 of the standard alphabet');
  }
  return new TextDecoder().decode(bytes);
}

// Shared parts of the Containerfile templates: base images, additional lines of a request, and quoting for shell commands.

export interface Rendered {
  readonly containerFile: string;
  /** The build context: texts by their names. */
  readonly files: Readonly<Record<string, string>>;
}

/** Throws InvalidBuild for an invalid image name. */
export function checkImage(field: string, image: string): string {
  try {
    parseReference(image);
    return image;
  } catch (error) {
    if (error instanceof RegistryError) throw new InvalidBuild(`packages.${field}: ${error.message}`, { cause: error });
    throw error;
  }
}

const INSTRUCTION =
  /^(?:RUN|ENV|ARG|LABEL|WORKDIR|USER|SHELL|ENTRYPOINT|CMD|EXPOSE|VOLUME|STOPSIGNAL|HEALTHCHECK|COPY|ADD)\s+\S/i;

/** Instructions as given, one a line, appended to the file. Throws InvalidBuild for anything but a single instruction. */
export function checkCommands(field: string, commands: readonly string[]): readonly string[] {
  for (const [at, command] of commands.entries()) {
    if (!INSTRUCTION.test(command)) {
      throw new InvalidBuild(`packages.${field}[${at}]: expected an instruction such as "RUN make"`);
    }
    if (/\\\s*$/.test(command))
      throw new InvalidBuild(`packages.${field}[${at}]: it ends with a backslash, which would continue it`);
  }
  return commands;
}

/** Commands of one RUN: each runs only if the previous one succeeded. */
export function chain(commands: readonly string[]): string {
  return commands.join(' \\\n    && ');
}

/** One word of a POSIX shell, with any content but line breaks, which the Containerfile parser would see first. */
export function quoteWord(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
