// Masks secrets in logs and failures: a step may print them plain or encoded, whole or in pieces. The strings themselves are searched for; a
// regular expression of all of them would exceed its limit, and quote them in its error.
import { inspect } from 'node:util';

/** Returns the text with its secrets masked. */
export type Redact = (text: string) => string;

const PLACEHOLDER = '***';
/** Shorter lines of a multi-line secret are too common to mask: a bracket, an empty line. */
const MIN_LINE = 4;
/** Pieces of long forms are found by 16-grams at each multiple of 16: any 31 characters in a row contain one. */
const GRAM = 16;
const WHOLE = 2 * GRAM - 1;
const KEY = 4;
/** For a secret that repeats itself, a few places suffice. */
const MAX_POSITIONS = 16;
/** The end of a truncated text. */
const CUT = '…';

/**
 * Masks each value and its lines, plain and as base64, URL-encoded, in JSON and in an inspected error. Of a long value any 31 characters in a
 * row are masked, wherever lines are broken, and its beginning before a truncation.
 */
export function createRedaction(values: Iterable<string | Uint8Array>): Redact {
  const finds = guard(() => createFinds(new Set([...values].flatMap(formsOf).filter(form => form !== ''))));
  return text =>
    guard(() =>
      hide(
        text,
        finds.flatMap(find => find(text)),
      ),
    );
}

/** A text could not be checked for secrets. The underlying error may quote them, and is dropped. */
export class RedactionError extends Error {
  override readonly name = 'RedactionFault';
}

function guard<T>(work: () => T): T {
  try {
    return work();
  } catch {
    throw new RedactionError('a text could not be searched for secrets');
  }
}

function createFinds(forms: ReadonlySet<string>): readonly Find[] {
  return forms.size === 0 ? [] : [createPieceFinder(forms), createHeadFinder(forms)];
}

/** From `start` up to `end`, in UTF-16 units. */
interface Span {
  readonly start: number;
  readonly end: number;
}

type Find = (text: string) => readonly Span[];

function hide(text: string, spans: readonly Span[]): string {
  const parts: string[] = [];
  let end = 0;
  for (const span of spans.toSorted((a, b) => a.start - b.start)) {
    if (span.start > end || parts.length === 0) parts.push(text.slice(end, span.start), PLACEHOLDER);
    end = Math.max(end, span.end);
  }
  return parts.length === 0 ? text : parts.join('') + text.slice(end);
}

/** Finds forms shorter than a piece, longest first, and the beginnings of all forms before a truncation. */
function createHeadFinder(forms: ReadonlySet<string>): Find {
  const tiny = [...forms].filter(form => form.length < KEY);
  const heads = Map.groupBy(
    [...forms].filter(form => form.length >= KEY).map(form => form.slice(0, WHOLE)),
    head => head.slice(0, KEY),
  );
  for (const found of heads.values()) found.sort((a, b) => b.length - a.length);

  function findShort(text: string, start: number): Span | undefined {
    const found = heads.get(text.slice(start, start + KEY));
    const length = found?.find(head => head.length < WHOLE && text.startsWith(head, start))?.length;
    return length === undefined ? undefined : { start, end: start + length };
  }

  function findCut(text: string, end: number): Span | undefined {
    for (let start = Math.max(0, end - WHOLE); start <= end - KEY; start += 1) {
      const tail = text.slice(start, end);
      if (heads.get(tail.slice(0, KEY))?.some(head => head.startsWith(tail))) return { start, end };
    }
    return undefined;
  }

  return text => {
    const spans = tiny.flatMap(form =>
      [...positionsOf(form, text)].map(start => ({ start, end: start + form.length })),
    );
    for (let start = 0; start <= text.length - KEY; start += 1) {
      const span = findShort(text, start);
      if (span) spans.push(span);
    }
    for (const end of positionsOf(CUT, text)) {
      const span = findCut(text, end);
      if (span) spans.push(span);
    }
    return spans;
  };
}

function* positionsOf(part: string, text: string): Generator<number> {
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) yield at;
}

interface Position {
  readonly form: string;
  readonly at: number;
}

/** Finds what a text has in common with long forms. */
function createPieceFinder(forms: ReadonlySet<string>): Find {
  const positions = new Map<string, Position[]>();
  // A cheap filter: most positions of most texts differ from all grams in three of their characters.
  const marks = new Uint8Array(65_536);
  for (const form of forms) {
    if (form.length < WHOLE) continue;
    for (let at = 0; at + GRAM <= form.length; at += GRAM) {
      const gram = form.slice(at, at + GRAM);
      const known = positions.get(gram) ?? [];
      if (known.length < MAX_POSITIONS) positions.set(gram, [...known, { form, at }]);
      marks[markOf(form, at)] = 1;
    }
  }
  if (positions.size === 0) return () => [];

  return text => {
    const spans: Span[] = [];
    // Every position counts: what one form has in common with the text may end where another's continues.
    for (let start = 0; start + GRAM <= text.length; start += 1) {
      if (marks[markOf(text, start)] !== 1) continue;
      for (const place of positions.get(text.slice(start, start + GRAM)) ?? []) spans.push(grow(text, start, place));
    }
    return spans;
  };
}

function markOf(text: string, at: number): number {
  return (text.charCodeAt(at) * 31 + text.charCodeAt(at + 7) * 1009 + text.charCodeAt(at + GRAM - 1) * 17) & 0xffff;
}

/** Extends to both sides as far as text and form agree, up to where the next gram is found by itself. */
function grow(text: string, start: number, { form, at }: Position): Span {
  let before = 0;
  while (before < GRAM && before < at && before < start && text[start - before - 1] === form[at - before - 1])
    before += 1;
  let after = GRAM;
  while (after < 2 * GRAM && at + after < form.length && text[start + after] === form[at + after]) after += 1;
  return { start: start - before, end: start + after };
}

/** The whole, also without a trailing line break, and each line, since output comes line by line. */
function formsOf(value: string | Uint8Array): readonly string[] {
  const bytes = Buffer.from(value);
  const text = bytes.toString();
  const trimmed = text.trim();
  // Longer lines are found as pieces of the whole.
  const lines = text.split(/\r\n|\r|\n/).map(line => line.trim());
  const short = lines.filter(line => line.length >= MIN_LINE && line.length < WHOLE);
  return [
    ...base64Forms(bytes),
    ...[text, trimmed, ...short].flatMap(piece => [...textForms(piece), ...plainBase64(piece)]),
  ];
}

function textForms(text: string): readonly string[] {
  const url = encodeURIComponent(text.toWellFormed());
  return [
    text,
    url,
    url.replaceAll('%20', '+'),
    url.replaceAll(/%[0-9A-F]{2}/g, code => code.toLowerCase()),
    JSON.stringify(text).slice(1, -1),
    inspect(text, { maxStringLength: Number.POSITIVE_INFINITY }).slice(1, -1),
  ];
}

function plainBase64(text: string): readonly string[] {
  return encodeBase64(Buffer.from(text));
}

function encodeBase64(bytes: Buffer): readonly string[] {
  const base64 = bytes.toString('base64');
  return [base64, base64.replace(/={1,2}$/, ''), bytes.toString('base64url')];
}

const MIN_INNER = 8;

/** Also within a longer text, such as `user:password`: its encoding depends on the offset modulo three. */
function base64Forms(bytes: Buffer): readonly string[] {
  const inner = [0, 1, 2].flatMap(skipped => {
    const rest = bytes.subarray(skipped);
    return encodeBase64(rest.subarray(0, rest.byteLength - (rest.byteLength % 3)));
  });
  return [...encodeBase64(bytes), ...inner.filter(form => form.length >= MIN_INNER)];
}
