// Splits a stream of bytes into lines of text. Memory is bounded by the maximum length of a line, beyond which text is dropped.

export interface LineSplitter {
  write(chunk: Uint8Array): void;
  /** Emits the rest after the last line break, if there is any. */
  end(): void;
}

/**
 * `onLine` gets each line without its break (LF or CRLF), as a terminal would finally show it: of a line redrawn by CR, the last version. A
 * line longer than `maxLength` UTF-16 units is truncated, and ends with `…`.
 */
export function createLineSplitter(onLine: (line: string) => void, maxLength: number): LineSplitter {
  const decoder = new TextDecoder();
  let line = '';

  function add(text: string): void {
    // One unit over the limit is enough to know that the line is too long.
    line += text.slice(0, maxLength + 1 - line.length);
  }

  function flush(): void {
    onLine(line.length > maxLength ? `${line.slice(0, maxLength)}…` : lastVersion(line));
    line = '';
  }

  function write(text: string): void {
    const [rest = '', ...following] = text.split('\n');
    add(rest);
    for (const next of following) {
      flush();
      add(next);
    }
  }

  return {
    write: chunk => write(decoder.decode(chunk, { stream: true })),
    end() {
      write(decoder.decode());
      if (line !== '') flush();
    },
  };
}

function lastVersion(line: string): string {
  return line.split('\r').findLast(version => version !== '') ?? '';
}
