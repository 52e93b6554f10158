// Lines out of chunks.
import { expect, test } from 'vitest';
import { createLineSplitter } from '../../src/builds/process.ts';

test.each<[name: string, chunks: readonly string[], lines: readonly string[]]>([
  ['whole lines', ['a\nb\n'], ['a', 'b']],
  ['a line in pieces', ['a', 'b', 'c\nd'], ['abc', 'd']],
  ['empty lines', ['\n\na\n\n'], ['', '', 'a', '']],
  ['CRLF, also over two chunks', ['a\r\nb\r', '\nc'], ['a', 'b', 'c']],
  ['a line that is redrawn', ['1%\r5%\r', '9%\n', 'end\n'], ['9%', 'end']],
  ['a long line', ['123456789', '0123', '4\nok\n'], ['12345678…', 'ok']],
  ['a line of exactly the limit', ['1234', '5678\n'], ['12345678']],
  ['nothing', [], []],
])('splits %s', (_, chunks, lines) => {
  expect(split(chunks.map(chunk => Buffer.from(chunk)))).toEqual(lines);
});

test('a character over two chunks stays whole', () => {
  const bytes = Buffer.from('é€\n');
  expect(split([...bytes].map(byte => Buffer.of(byte)))).toEqual(['é€']);
});

test('bytes that are no UTF-8 become replacement characters', () => {
  expect(split([Buffer.of(0xff, 0x61, 0x0a)])).toEqual(['\ufffda']);
});

function split(chunks: readonly Uint8Array[]): readonly string[] {
  const lines: string[] = [];
  const splitter = createLineSplitter(line => lines.push(line), 8);
  for (const chunk of chunks) splitter.write(chunk);
  splitter.end();
  return lines;
}
