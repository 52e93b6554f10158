// Reading a text character by character, or run by run where nothing in between means anything: a file may be a megabyte of one word.

export interface Cursor {
  /** The next character, a whole code point; undefined at the end. */
  peek(): string | undefined;
  /** The same, and goes on behind it. */
  next(): string | undefined;
  /** What comes before the next character that is an end, or before the end of the text. It is asked of UTF-16 code units. */
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
