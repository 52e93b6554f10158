// Foreign JSON: measured before it is parsed, since two bytes of it may become an object of a hundred. Parsed values are read and shown,
// never encoded again: numbers may have lost digits, and keys their order.
import type { z } from 'zod';
import { RegistryError } from './errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** `message` completes "the document …". */
export class InvalidJson extends Error {
  override readonly name = 'InvalidJson';
  /** Whether it may be valid JSON, but exceeds a limit. */
  readonly isTooMuch: boolean;

  constructor(message: string, options: ErrorOptions & { readonly isTooMuch: boolean }) {
    super(message, options);
    this.isTooMuch = options.isTooMuch;
  }
}

interface JsonLimits {
  /** Keys count too. */
  readonly maxValues: number;
  readonly maxDepth: number;
}

/** For a registry document. The largest index that we accept, with every descriptor field present, has half as many values. */
export const DOCUMENT_LIMITS: JsonLimits = { maxValues: 200_000, maxDepth: 100 };

/** Throws InvalidJson. Invalid UTF-8 becomes replacement characters, as in Go clients. */
export function parseJson(raw: Uint8Array, limits: JsonLimits = DOCUMENT_LIMITS): unknown {
  measure(raw, limits);
  try {
    return JSON.parse(new TextDecoder().decode(raw));
  } catch (cause) {
    throw new InvalidJson('is not JSON', { isTooMuch: false, cause });
  }
}

/** Throws InvalidJson as soon as a limit is exceeded. Does not check that it is valid JSON. */
export function measure(raw: Uint8Array, { maxValues, maxDepth }: JsonLimits): void {
  let values = 1;
  let depth = 0;
  /** Of the number, or the word such as true, at the current position. */
  let digits = 0;
  for (let at = 0; at < raw.byteLength; at += 1) {
    let passed = 0;
    switch (raw[at]) {
      case QUOTE:
        at = endOfString(raw, at);
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        depth += 1;
        values += 1;
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        depth -= 1;
        break;
      case COMMA:
      case COLON:
        values += 1;
        break;
      case SPACE:
      case TAB:
      case LINE_FEED:
      case CARRIAGE_RETURN:
        break;
      default:
        passed = digits + 1;
    }
    digits = passed;
    if (depth > maxDepth) throw tooMuch(`nests deeper than ${maxDepth}`);
    if (values > maxValues) throw tooMuch(`has more than ${maxValues} values`);
    if (digits > MAX_DIGITS) throw tooMuch(`has a number of more than ${MAX_DIGITS} digits`);
  }
}

function tooMuch(message: string): InvalidJson {
  return new InvalidJson(message, { isTooMuch: true });
}

/** More than any meaningful number has; parsing one takes longer than parsing as many characters of anything else. */
const MAX_DIGITS = 1000;
const TAB = 0x09;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** The position of its closing quote, or the end of the bytes. Most long strings have no escapes. */
function endOfString(raw: Uint8Array, start: number): number {
  let at = raw.indexOf(QUOTE, start + 1);
  if (at > 0 && raw[at - 1] !== BACKSLASH) return at;
  for (at = start + 1; at < raw.byteLength && raw[at] !== QUOTE; at += 1) if (raw[at] === BACKSLASH) at += 1;
  return at;
}

/** Throws MANIFEST_INVALID for bytes that are not a JSON object. */
export function parseObject(raw: Uint8Array): JsonObject {
  const value = parse(raw);
  if (!isObject(value)) throw new RegistryError('MANIFEST_INVALID', 'invalid document: it is not a JSON object');
  return value;
}

/** An object's field that is itself an object; an empty one where it is absent. */
export function objectIn(parent: JsonObject, key: string): JsonObject {
  const value = parent[key];
  return isObject(value) ? value : {};
}

/** What is wrong with a foreign value, and where: `layers[1].size: Invalid input: expected number, received string`. */
export function describeFault({ issues: [issue] }: z.core.$ZodError, at: readonly PropertyKey[] = []): string {
  const path = [...at, ...(issue?.path ?? [])];
  const location = path
    .map(part => (typeof part === 'number' ? `[${part}]` : `.${String(part).slice(0, 80)}`))
    .join('');
  return `${location.replace(/^\./, '') || 'the document'}: ${issue?.message ?? 'not what it ought to be'}`;
}

function parse(raw: Uint8Array): unknown {
  try {
    return parseJson(raw);
  } catch (cause) {
    if (!(cause instanceof InvalidJson)) throw cause;
    throw new RegistryError('MANIFEST_INVALID', `invalid document: it ${cause.message}`, { cause });
  }
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
