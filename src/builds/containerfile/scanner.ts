// Scans the characters of a Containerfile with BuildKit's (Go's) definition of white space: a difference between parsers could hide a base
// image. JavaScript's \s and trim differ in U+0085 and U+FEFF.

export interface Cursor {
  /** The next character, a whole code point; undefined at the end. */
  peek(): string | undefined;
  /** The same, and advances. */
  next(): string | undefined;
  /** Everything before the next character that is an end, or before the end of the text. Called with UTF-16 code units. */
  nextUntil(isEnd: (char: string) => boolean): string;
}

export function createCursor(text: string): Cursor {
  let at = 0;
  function peek(): string | undefined {
    const code = text.codePointAt(at);
    return code === undefined ? undefined : String.fromCodePoint(code);
  }
  return {
    peek,
    next() {
      const char = peek();
      at += char?.length ?? 0;
      return char;
    },
    nextUntil(isEnd) {
      const start = at;
      while (at < text.length && !isEnd(text.charAt(at))) at += 1;
      return text.slice(start, at);
    },
  };
}

/** Like Go's unicode.IsSpace. */
const SPACE = /[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/** Of a single character. */
export function isSpace(char: string): boolean {
  const code = char.charCodeAt(0);
  // True for nearly all characters of most texts.
  if (code < 0x80) return code === 0x20 || (code >= 0x09 && code <= 0x0d);
  return SPACE.test(char);
}

export function trimSpace(text: string): string {
  return trimEndWhile(trimSpaceStart(text), isSpace);
}

export function trimSpaceStart(text: string): string {
  let start = 0;
  while (start < text.length && isSpace(text.charAt(start))) start += 1;
  return text.slice(start);
}

/** By hand: a regular expression for the end of a run takes quadratic time. */
export function trimEndWhile(text: string, isTrimmed: (char: string) => boolean): string {
  let end = text.length;
  while (end > 0 && isTrimmed(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}

/** The pieces between single characters of space. */
export function splitAtSpace(text: string): readonly string[] {
  return text.split(SPACE);
}
