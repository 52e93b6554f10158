// Reading a text character by character.

export interface Cursor {
  /** The next character, a whole code point; undefined at the end. */
  peek(): string | undefined;
  /** The same, and goes on behind it. */
  next(): string | undefined;
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
  };
}
