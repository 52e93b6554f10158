// Fields of options, as buildctl reads them.
import { expect, test } from 'vitest';
import { csvFields } from '../../../../src/builds/backends/buildkit/command.ts';

test.each([
  ['plain fields', { type: 'image', name: 'a:b' }, 'type=image,name=a:b'],
  ['an absent one', { a: '1', b: undefined }, 'a=1'],
  ['a comma', { a: '1,2' }, '"a=1,2"'],
  ['quotes', { a: 'say "x"' }, '"a=say ""x"""'],
  ['a line break', { a: '1\n2', b: '3' }, '"a=1\n2",b=3'],
  ['spaces', { a: ' 1 ' }, 'a= 1 '],
])('writes fields: %s', (_, fields, csv) => {
  expect(csvFields(fields)).toBe(csv);
});
