import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type EscapeCharacter, InvalidSyntax } from '../../../src/builds/containerfile/container-file.ts';
import { expandWord, expandWords } from '../../../src/builds/containerfile/expand.ts';
import { measureThreadMs } from '../../support/thread-time.ts';

const values: ReadonlyMap<string, string> = new Map([
  ['A', 'value'],
  ['E', ''],
  ['S', 'a b'],
  ['P', '/usr/local/bin.tar.gz'],
  ['L', 'foobarfoo'],
  ['é', 'accent'],
]);
const find = (name: string) => values.get(name);

test.each<[text: string, expected: string, escapeCharacter?: EscapeCharacter]>([
  ['plain', 'plain'],
  ['$A', 'value'],
  [`\${A}`, 'value'],
  [`x\${A}y$A.z`, 'xvalueyvalue.z'],
  [`$U|\${U}`, '|'],
  ['$é', 'accent'],
  ['$', '$'],
  ['a$ b', 'a$ b'],
  ['$1A', 'A'],
  ['\\$A', '$A'],
  ['a\\b', 'ab'],
  ['a\\', 'a'],
  ["'$A'", '$A'],
  ['"$A"', 'value'],
  ['"\\$A \\" \\\\ \\n"', '$A " \\ \\n'],
  ['"\'$A\'"', "'value'"],
  ['`$A', '$A', '`'],
  ['\\$A', '\\value', '`'],
  [`\${A:-d}`, 'value'],
  [`\${E:-d}`, 'd'],
  [`\${E-d}`, ''],
  [`\${U:-d}`, 'd'],
  [`\${U-d}`, 'd'],
  [`\${A:+d}`, 'd'],
  [`\${E:+d}`, ''],
  [`\${E+d}`, 'd'],
  [`\${U+d}`, ''],
  [`\${U:-}`, ''],
  [`\${U:-$A}`, 'value'],
  [`\${U:-\${E:-\${A}}}`, 'value'],
  [`\${U:-"a b"}`, 'a b'],
  [`\${U:-\\}}`, '}'],
  [`\${A:?no}`, 'value'],
  [`\${E?no}`, ''],
  [`\${P#*/}`, 'usr/local/bin.tar.gz'],
  [`\${P##*/}`, 'bin.tar.gz'],
  [`\${P%.*}`, '/usr/local/bin.tar'],
  [`\${P%%.*}`, '/usr/local/bin'],
  [`\${P%x}`, '/usr/local/bin.tar.gz'],
  [`\${A#??}`, 'lue'],
  [`\${A#"va"}`, 'lue'],
  [`\${L/foo/x}`, 'xbarfoo'],
  [`\${L//foo/x}`, 'xbarx'],
  [`\${L//o*o/x}`, 'fx'],
  [`\${P//\\//-}`, '-usr-local-bin.tar.gz'],
  [`\${L//f?o/}`, 'bar'],
  [`\${U#a}`, ''],
])('expands %s to %s', (text, expected, escapeCharacter = '\\') => {
  expect(expandWord(text, find, { escapeCharacter })).toBe(expected);
});

test.each<[text: string, expected: readonly string[]]>([
  ['a  b', ['a', 'b']],
  ['$S', ['a', 'b']],
  ['"$S" c', ['a b', 'c']],
  ['a\\ b', ['a b']],
  ['x$S', ['xa', 'b']],
  ['$U', []],
  ['<< E', ['<< E']],
])('splits %s into words', (text, expected) => {
  expect(expandWords(text, find, { escapeCharacter: '\\' })).toEqual(expected);
});

test.each<[text: string, message: RegExp]>([
  [`\${A`, /missing/],
  [`\${`, /missing/],
  [`\${}`, /no name/],
  [`\${A:=b}`, /unknown/],
  [`\${A!}`, /unknown/],
  ['"a', /quote is not closed/],
  ["'a", /quote is not closed/],
  [`\${U:?give U}`, /^U: give U$/],
  [`\${E:?}`, /^E: is not allowed to be empty$/],
  [`\${U?}`, /^U: is not allowed to be unset$/],
  [`\${A#\\a}`, /escapes what need not be/],
  [`\${A/b}`, /missing/],
  [`\${U:-`.repeat(60), /deeper/],
])('refuses %s', (text, message) => {
  const expand = () => expandWord(text, find, { escapeCharacter: '\\' });
  expect(expand).toThrow(InvalidSyntax);
  expect(expand).toThrow(message);
});

test('keeps what a heredoc does not mean', () => {
  const options = { escapeCharacter: '\\', ignoresQuotes: true } as const;
  expect(expandWord(`"$A" 'it' \\$A`, find, options)).toBe(`"value" 'it' $A`);
});

test('stops a value that doubles without end', () => {
  let text = 'x'.repeat(1000);
  const grow = () => {
    for (let i = 0; i < 20; i += 1) text = expandWord('$V$V', () => text, { escapeCharacter: '\\' });
  };
  expect(grow).toThrow(/longer than/);
});

test('is done soon with a pattern full of stars', () => {
  const long = 'a'.repeat(3000);
  const expand = () =>
    expect(expandWord(`\${V#${'a*'.repeat(40)}b}`, () => long, { escapeCharacter: '\\' })).toBe(long);
  expect(measureThreadMs(expand)).toBeLessThan(2000);
});

test('takes any text, or says what is wrong with it', () => {
  const piece = fc.constantFrom(
    '$',
    '{',
    '}',
    'A',
    'U',
    ':',
    '-',
    '+',
    '?',
    '#',
    '%',
    '/',
    '*',
    '\\',
    '"',
    "'",
    ' ',
    '<',
    'x',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 30 }), pieces => {
      try {
        expect(typeof expandWord(pieces.join(''), find, { escapeCharacter: '\\' })).toBe('string');
      } catch (error) {
        expect(error).toBeInstanceOf(InvalidSyntax);
      }
    }),
    { numRuns: 5000 },
  );
});
