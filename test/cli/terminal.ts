// A terminal that keeps what is written to it.
import { Writable } from 'node:stream';

export function createTerminal() {
  const chunks: string[] = [];
  const stream = new Writable({
    decodeStrings: false,
    write(chunk, _, done) {
      chunks.push(String(chunk));
      done();
    },
  });
  return Object.assign(stream, { isTTY: true, columns: 120, text: () => chunks.join('') });
}
