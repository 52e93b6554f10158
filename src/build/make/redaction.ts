// Secrets in what is told: a step may print them, as they are or encoded.

/** The text without the secrets. */
export type Redact = (text: string) => string;

const PLACEHOLDER = '***';
/** A shorter line of a secret with several is too common to hide: a bracket, an empty line. */
const MIN_LINE = 4;

/** Hides each value, its lines, and what they are in base64, in a URL and in JSON. */
export function createRedaction(values: Iterable<string | Uint8Array>): Redact {
  const forms = new Set([...values].flatMap(piecesOf).flatMap(formsOf));
  // A secret may be a part of another: the longest is looked for first.
  const ordered = [...forms].filter(Boolean).sort((a, b) => b.length - a.length);
  if (ordered.length === 0) return text => text;
  const pattern = new RegExp(ordered.map(form => RegExp.escape(form)).join('|'), 'g');
  return text => text.replace(pattern, PLACEHOLDER);
}

/** The whole, without the line break that files end with, and each line: what is told comes line by line. */
function piecesOf(value: string | Uint8Array): readonly Uint8Array[] {
  const bytes = Buffer.from(value);
  const text = bytes.toString();
  const lines = text.split(/\r\n|\r|\n/).map(line => line.trim());
  const trimmed = text.trim();
  const long = lines.filter(line => line.length >= MIN_LINE);
  return [bytes, ...[trimmed, ...long].map(piece => Buffer.from(piece))];
}

function formsOf(piece: Uint8Array): readonly string[] {
  const bytes = Buffer.from(piece);
  const text = bytes.toString();
  const base64 = bytes.toString('base64');
  const url = encodeURIComponent(text);
  return [
    text,
    base64,
    base64.replace(/=+$/, ''),
    bytes.toString('base64url'),
    url,
    url.replaceAll('%20', '+'),
    url.replaceAll(/%[0-9A-F]{2}/g, code => code.toLowerCase()),
    JSON.stringify(text).slice(1, -1),
  ];
}
