// Edits JSON as text: everything not named by an edit is preserved character by character, including numbers that a float cannot hold, keys
// whose order JavaScript would change, and `__proto__`. The JSON must also be unambiguous, so that any two readers of the result see the
// same.
import { RegistryError } from '../oci/errors.ts';
import { DOCUMENT_LIMITS, InvalidJson, measure } from '../oci/json.ts';

/** A value as written. An object has `members` in their order, a list has `items`. */
export interface Json {
  readonly text: string;
  readonly members?: ReadonlyMap<string, Json>;
  readonly items?: readonly Json[];
}

const MAX_DEPTH = 100;
/** Between values, the only JSON characters up to this one are whitespace. */
const SPACE = 0x20;

/**
 * Throws MANIFEST_INVALID for anything that is not UTF-8 JSON or nests too deep, and for an object with a duplicate key: some readers take
 * the first, some the last, and Go merges the two.
 */
export function parseJson(raw: Uint8Array): Json {
  return read(decode(raw));
}

function decode(raw: Uint8Array): string {
  try {
    measure(raw, { ...DOCUMENT_LIMITS, maxDepth: MAX_DEPTH });
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw);
    JSON.parse(text);
    return text;
  } catch (cause) {
    const isTooMuch = cause instanceof InvalidJson && cause.isTooMuch;
    throw invalid(isTooMuch ? `it ${cause.message}` : 'not JSON in UTF-8', cause);
  }
}

/** Reads JSON that is known to be valid. */
function read(text: string): Json {
  let at = 0;
  return readValue(0);

  function readValue(depth: number): Json {
    if (depth > MAX_DEPTH) throw invalid(`nested deeper than ${MAX_DEPTH}`);
    skipSpace();
    const start = at;
    if (text[at] === '{') return { members: readMembers(depth), text: text.slice(start, at) };
    if (text[at] === '[') return { items: readItems(depth), text: text.slice(start, at) };
    if (text[at] === '"') skipString();
    else while (text.charCodeAt(at) > SPACE && !',]}'.includes(text.charAt(at))) at += 1;
    return { text: text.slice(start, at) };
  }

  function readMembers(depth: number): ReadonlyMap<string, Json> {
    const members = new Map<string, Json>();
    for (skipPast('{'); text[at] !== '}'; skipPast(',')) {
      const start = at;
      skipString();
      const key = String(JSON.parse(text.slice(start, at)));
      if (members.has(key)) throw invalid(`the key ${JSON.stringify(key.slice(0, 80))} is duplicated`);
      skipPast(':');
      members.set(key, readValue(depth + 1));
    }
    at += 1;
    return members;
  }

  function readItems(depth: number): readonly Json[] {
    const items: Json[] = [];
    for (skipPast('['); text[at] !== ']'; skipPast(',')) items.push(readValue(depth + 1));
    at += 1;
    return items;
  }

  function skipString(): void {
    do at = text.indexOf('"', at + 1);
    while (isEscaped(at));
    at += 1;
  }

  function isEscaped(quote: number): boolean {
    let start = quote;
    while (text[start - 1] === '\\') start -= 1;
    return (quote - start) % 2 === 1;
  }

  /** Skips the mark, if it comes next, and the whitespace around it. */
  function skipPast(mark: string): void {
    skipSpace();
    if (text[at] !== mark) return;
    at += 1;
    skipSpace();
  }

  function skipSpace(): void {
    while (text.charCodeAt(at) <= SPACE) at += 1;
  }
}

export function toJson(value: unknown): Json {
  return read(JSON.stringify(value));
}

/** The parsed value: for strings, and for values that are only read. */
export function toValue(json: Json | undefined): unknown {
  return json && JSON.parse(json.text);
}

export function encodeJson({ text }: Json): Uint8Array {
  return new TextEncoder().encode(text);
}

/**
 * The object with members replaced in place and new ones appended; `undefined` leaves one unchanged. An absent or null object counts as
 * empty. Throws MANIFEST_INVALID for anything but an object.
 */
export function withMembers(object: Json | undefined, changes: Readonly<Record<string, Json | undefined>>): Json {
  const members = new Map(membersOf(object));
  for (const [key, value] of Object.entries(changes)) if (value) members.set(key, value);
  return write(members);
}

/** The same, with plain values. */
export function withValues(object: Json | undefined, changes: Readonly<Record<string, unknown>>): Json {
  return withMembers(object, Object.fromEntries(Object.entries(changes).map(([key, value]) => [key, toJson(value)])));
}

export function withoutMembers(object: Json, keys: readonly string[]): Json {
  return write(new Map([...membersOf(object)].filter(([key]) => !keys.includes(key))));
}

/** Empty where absent or null. Throws MANIFEST_INVALID for anything but an object. */
export function membersOf(object: Json | undefined): ReadonlyMap<string, Json> {
  return object?.members ?? orEmpty(object, 'an object', new Map());
}

/** Empty where absent or null. Throws MANIFEST_INVALID for anything but a list. */
export function itemsOf(list: Json | undefined): readonly Json[] {
  return list?.items ?? orEmpty(list, 'a list', []);
}

export function toList(items: readonly Json[]): Json {
  return { items, text: `[${items.map(({ text }) => text).join()}]` };
}

function write(members: ReadonlyMap<string, Json>): Json {
  const texts = [...members].map(([key, { text }]) => `${JSON.stringify(key)}:${text}`);
  return { members, text: `{${texts.join()}}` };
}

function orEmpty<T>(json: Json | undefined, what: string, empty: T): T {
  if (json === undefined || json.text === 'null') return empty;
  throw invalid(`${json.text.slice(0, 80)} is not ${what}`);
}

function invalid(reason: string, cause?: unknown): RegistryError {
  return new RegistryError('MANIFEST_INVALID', `the document cannot be augmented: ${reason}`, { cause });
}
