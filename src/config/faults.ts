// Configuration errors as an operator reads them: the location, the problem, and what is expected. None quotes a value, which may be a
// secret.
import type { z } from 'zod';
import { findSimilar } from '../oci/wording.ts';
import { keysAt } from './shape.ts';

/** The problem, its location, and what is expected; quotes no secret. */
export interface ConfigFault {
  /** The flag or environment variable that it comes from. */
  readonly source?: string | undefined;
  /** The file, and the line in it, starting at 1. */
  readonly file?: string | undefined;
  readonly line?: number | undefined;
  /** Such as `upstreams.lab.url`. */
  readonly key?: string | undefined;
  readonly message: string;
}

/** The configuration is invalid; every error names its location. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** One line each. */
  readonly faults: readonly string[];
  readonly details: readonly ConfigFault[];

  constructor(details: readonly ConfigFault[]) {
    const faults = details.map(formatFault);
    super(`invalid configuration:\n${faults.map(fault => `  ${fault}`).join('\n')}`);
    this.faults = faults;
    this.details = details;
  }
}

/** `veneer.yaml:3: cache.maxSize: expected …`. A flag or variable has a single key, which need not be named twice. */
function formatFault({ source, file, line, key, message }: ConfigFault): string {
  if (source !== undefined) return `${source}: ${message}`;
  const place = file === undefined ? undefined : line === undefined ? file : `${file}:${line}`;
  return [place, key || undefined, message].filter(part => part !== undefined).join(': ');
}

interface Fault {
  readonly path: readonly PropertyKey[];
  readonly message: string;
}

/** One message per key. `schema` is the one that found the issue. */
export function describeIssue(issue: z.core.$ZodIssue, schema: z.core.$ZodType): readonly Fault[] {
  if (issue.code !== 'unrecognized_keys') return [{ path: issue.path, message: issue.message }];
  const known = keysAt(schema, issue.path);
  return issue.keys.map(key => ({ path: [...issue.path, key], message: describeUnknown(key, known) }));
}

/** Replaces zod's default messages by ones in terms of YAML. */
export function describeRawIssue(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.input === undefined) return 'must be given';
  if (issue.code === 'invalid_type') {
    return `${EXPECTED}${TYPE_NAMES[issue.expected] ?? issue.expected}, got ${nameType(issue.input)}`;
  }
  if (issue.code === 'invalid_union') return describeAlternatives(issue.errors);
  if (issue.code === 'too_small') return describeSize('at least', issue.minimum, issue.origin);
  if (issue.code === 'too_big') return describeSize('at most', issue.maximum, issue.origin);
  if (issue.code !== 'invalid_value') return undefined;
  const options = issue.values.map(String);
  const similar = typeof issue.input === 'string' ? findSimilar(issue.input, options) : undefined;
  return `${EXPECTED}${listOptions(options)}${suggest(similar)}`;
}

/** `upstreams.lab.url`, and `upstreams["docker.io"].url` where a key has characters other than those of a word. */
export function formatPath(path: readonly PropertyKey[]): string {
  return path.reduce<string>((place, key) => {
    const word = String(key);
    if (!/^[\w-]+$/.test(word)) return `${place}[${JSON.stringify(word)}]`;
    return place ? `${place}.${word}` : word;
  }, '');
}

/** What each alternative expected; where one of them has a more specific message, that one. */
function describeAlternatives(errors: readonly (readonly z.core.$ZodIssue[])[]): string | undefined {
  const messages = errors.flatMap(([issue]) => (issue?.path.length === 0 ? [issue.message] : []));
  const precise = messages.find(message => !message.startsWith(EXPECTED));
  if (precise !== undefined || messages.length === 0) return precise;
  return EXPECTED + [...new Set(messages.map(message => message.slice(EXPECTED.length)))].join(', or ');
}

const EXPECTED = 'expected ';

function describeSize(bound: string, limit: number | bigint, of: string): string {
  const [one, many] = UNITS[of] ?? [];
  const unit = Number(limit) === 1 ? one : many;
  return [`${EXPECTED}${bound}`, limit, unit].filter(part => part !== undefined).join(' ');
}

const UNITS: Readonly<Record<string, readonly [one: string, many: string]>> = {
  array: ['entry', 'entries'],
  record: ['key', 'keys'],
  string: ['character', 'characters'],
};

const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: 'a mapping of keys',
  record: 'a mapping of keys',
  array: 'a list',
  tuple: 'a list',
  string: 'text',
  boolean: 'true or false',
  number: 'a number',
  int: 'a whole number',
};

/** YAML's name for the type of a value. */
function nameType(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping of keys';
  if (typeof value === 'string') return 'text';
  return typeof value === 'boolean' ? 'true or false' : 'a number';
}

/** More keys than this are not listed. */
const MAX_LISTED = 8;

function describeUnknown(key: string, known: readonly string[]): string {
  const similar = findSimilar(key, known);
  if (similar !== undefined) return `unknown key${suggest(similar)}`;
  return known.length > 0 && known.length <= MAX_LISTED ? `unknown key: expected ${listOptions(known)}` : 'unknown key';
}

function listOptions(options: readonly string[]): string {
  const last = options.at(-1) ?? '';
  return options.length < 2 ? last : `${options.slice(0, -1).join(', ')} or ${last}`;
}

function suggest(similar: string | undefined): string {
  return similar === undefined ? '' : `; did you mean ${similar}?`;
}
