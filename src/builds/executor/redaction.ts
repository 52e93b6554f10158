// Secrets in what is told: a step may print them, as they are or encoded, whole or in pieces. The strings themselves are looked for; a pattern of
// all of them would outgrow what a regular expression takes, and be told by its own error.
import { inspect } from 'node:util';

/** The text without the secrets. */
export type Redact = (text: string) => string;

const PLACEHOLDER = '***';
/** A shorter line of a secret with several is too common to hide: a bracket, an empty line. */
const MIN_LINE = 4;
/** A piece of a longer form is known by so many of its characters, looked up at each multiple of as many: all of 31 in a row are found. */
const GRAM = 16;
const WHOLE = 2 * GRAM - 1;
const KEY = 4;
/** Where a secret repeats itself, it is enough to know a few of the places. */
const MAX_PLACES = 16;
/** What a text that was cut ends with. */
const CUT = '…';

/**
 * Hides each value, its lines, and what they are in base64, in a URL, in JSON and in an error. Of a long value each piece of 31 characters is
 * hidden too, so that it does not matter where lines were broken, and its beginning in front of a cut.
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

/** Secrets could not be looked for. What went wrong may quote them, and is told to nobody. */
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

/** Forms that are shorter than a piece, the longest first, and the beginnings of all where the text was cut. */
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
    const spans = tiny.flatMap(form => [...placesOf(form, text)].map(start => ({ start, end: start + form.length })));
    for (let start = 0; start <= text.length - KEY; start += 1) {
      const span = findShort(text, start);
      if (span) spans.push(span);
    }
    for (const end of placesOf(CUT, text)) {
      const span = findCut(text, end);
      if (span) spans.push(span);
    }
    return spans;
  };
}

function* placesOf(part: string, text: string): Generator<number> {
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) yield at;
}

interface Place {
  readonly form: string;
  readonly at: number;
}

/** What a text has in common with a long form. */
function createPieceFinder(forms: ReadonlySet<string>): Find {
  const places = new Map<string, Place[]>();
  // Most places of most texts are told apart by three of their characters.
  const marks = new Uint8Array(65_536);
  for (const form of forms) {
    if (form.length < WHOLE) continue;
    for (let at = 0; at + GRAM <= form.length; at += GRAM) {
      const gram = form.slice(at, at + GRAM);
      const known = places.get(gram) ?? [];
      if (known.length < MAX_PLACES) places.set(gram, [...known, { form, at }]);
      marks[markOf(form, at)] = 1;
    }
  }
  if (places.size === 0) return () => [];

  return text => {
    const spans: Span[] = [];
    // Each place is looked at: what one form has in common with the text may end where another's goes on.
    for (let start = 0; start + GRAM <= text.length; start += 1) {
      if (marks[markOf(text, start)] !== 1) continue;
      for (const place of places.get(text.slice(start, start + GRAM)) ?? []) spans.push(grow(text, start, place));
    }
    return spans;
  };
}

function markOf(text: string, at: number): number {
  return (text.charCodeAt(at) * 31 + text.charCodeAt(at + 7) * 1009 + text.charCodeAt(at + GRAM - 1) * 17) & 0xffff;
}

/** To both sides, as far as the text is the form's, up to where the next piece is known by itself. */
function grow(text: string, start: number, { form, at }: Place): Span {
  let before = 0;
  while (before < GRAM && before < at && before < start && text[start - before - 1] === form[at - before - 1])
    before += 1;
  let after = GRAM;
  while (after < 2 * GRAM && at + after < form.length && text[start + after] === form[at + after]) after += 1;
  return { start: start - before, end: start + after };
}

/** The whole, without the line break that files end with too, and each line: what is told comes line by line. */
function formsOf(value: string | Uint8Array): readonly string[] {
  const bytes = Buffer.from(value);
  const text = bytes.toString();
  const trimmed = text.trim();
  // A longer line is a piece of the whole.
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

/** Also as a part of something longer, such as a user's name with it: which characters that gives hangs on what is in front, in one of three ways. */
function base64Forms(bytes: Buffer): readonly string[] {
  const inner = [0, 1, 2].flatMap(skipped => {
    const rest = bytes.subarray(skipped);
    return encodeBase64(rest.subarray(0, rest.byteLength - (rest.byteLength % 3)));
  });
  return [...encodeBase64(bytes), ...inner.filter(form => form.length >= MIN_INNER)];
}
