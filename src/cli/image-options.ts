// Options that describe the desired image, validated as they are parsed. Each parser throws InvalidArgumentError, which the command line
// shows.
import { InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { RegistryError } from '../oci/errors.ts';
import { InvalidPlatform, parsePlatforms } from '../oci/platform.ts';
import { parseReference } from '../oci/reference.ts';
import { parseJson } from './service/service.ts';

const wordsSchema = z.array(z.string());

/** Where an image is pushed: `REPOSITORY[:TAG]`. */
export interface TargetName {
  /** With its registry, if given. */
  readonly repository: string;
  readonly tag: string | undefined;
}

/** For a repeatable option. */
export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** The platforms as written: the service validates them. */
export function collectPlatforms(text: string, before: readonly string[] = []): readonly string[] {
  try {
    parsePlatforms(text);
  } catch (error) {
    if (error instanceof InvalidPlatform) throw new InvalidArgumentError(error.message);
    throw error;
  }
  return [...before, text];
}

/** `KEY=value`; the last of equal keys wins. */
export function collectPair(
  text: string,
  before: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const equals = checkPair(text);
  return Object.fromEntries([...Object.entries(before), [text.slice(0, equals), text.slice(equals + 1)]]);
}

/** `KEY=value`, in the order given. */
export function collectEnv(text: string, before: readonly string[] = []): readonly string[] {
  checkPair(text);
  return [...before, text];
}

function checkPair(text: string): number {
  const equals = text.indexOf('=');
  if (equals > 0) return equals;
  throw new InvalidArgumentError('expected KEY=value');
}

/** Arguments one by one, or all as a JSON list of strings. */
export function collectWords(text: string, before: readonly string[] = []): readonly string[] {
  if (!text.startsWith('[')) return [...before, text];
  const { data } = wordsSchema.safeParse(parseJson(text));
  if (data) return [...before, ...data];
  throw new InvalidArgumentError('expected an argument, or a JSON list of strings such as ["sh","-c"]');
}

export function parseTargetName(text: string): TargetName {
  const { registry, repository, tag, digest } = readReference(text);
  if (digest !== undefined)
    throw new InvalidArgumentError('expected REPOSITORY[:TAG]: the digest is not known in advance');
  return {
    repository: registry === undefined ? repository : `${registry}/${repository}`,
    tag: text.endsWith(`:${tag}`) ? tag : undefined,
  };
}

function readReference(text: string) {
  try {
    return parseReference(text);
  } catch (error) {
    if (error instanceof RegistryError) throw new InvalidArgumentError(`${error.message}; expected REPOSITORY[:TAG]`);
    throw error;
  }
}

/** A named image must be pullable under its name: it is frozen, unless it is mirrored. */
export function targetOf(name: TargetName | undefined, isFrozen: boolean | undefined) {
  return { buildRepository: name?.repository, buildTag: name?.tag, freeze: isFrozen ?? (name && true) };
}
