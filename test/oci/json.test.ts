// JSON from outside: objects for a look, and what is too much to be parsed.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InvalidJson, measure, objectIn, parseJson, parseObject } from '../../src/oci/json.ts';

test('finds objects in objects', () => {
  const document = parseObject(Buffer.from('{"a":{"b":1},"c":[],"d":null}'));
  expect(objectIn(document, 'a')).toEqual({ b: 1 });
  for (const key of ['c', 'd', 'e']) expect(objectIn(document, key)).toEqual({});
});

test.each(['', '{', '[]', 'null', '"a"'])('refuses %j', text => {
  expect(() => parseObject(Buffer.from(text))).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }));
});

test('parses whatever is JSON, as JSON.parse does', () => {
  fc.assert(
    fc.property(fc.jsonValue(), value => {
      expect(parseJson(encode(value))).toEqual(JSON.parse(JSON.stringify(value)));
    }),
  );
});

test('counts keys and values outside of strings, no matter what is in strings', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 6 }), value => {
      const limits = { maxValues: countValues(value), maxDepth: 100 };
      expect(() => measure(encode(value), { ...limits, maxValues: Math.ceil(limits.maxValues / 2) - 1 })).toThrow(
        InvalidJson,
      );
      measure(encode(value), { ...limits, maxValues: limits.maxValues * 2 });
    }),
  );
});

test.each([
  ['nests deeper than 100', '['.repeat(101)],
  ['nests deeper than 100', '{"a":'.repeat(101)],
  ['has more than 200000 values', `[${'0,'.repeat(200_001)}0]`],
  ['has more than 200000 values', `[${'[],'.repeat(100_001)}0]`],
  ['has more than 200000 values', `{${'"":"",'.repeat(100_001)}"a":0}`],
  ['has a number of more than 1000 digits', `[1,${'9'.repeat(1001)}]`],
  ['has a number of more than 1000 digits', 'x'.repeat(5000)],
  ['is not JSON', '{"a":"\\"}'],
  ['is not JSON', ']'.repeat(1000)],
])('refuses what %s', (reason, text) => {
  expect(() => parseJson(Buffer.from(text))).toThrow(reason);
});

test('takes long strings, deep lists and many values up to the limits', () => {
  for (const text of [
    `[1, ${'9'.repeat(1000)},-0.5e-7]`,
    `"${'A,[:{'.repeat(1e5)}"`,
    `"${'\\"\\\\'.repeat(1e5)}"`,
    `${'['.repeat(100)}${']'.repeat(100)}`,
  ]) {
    expect(parseJson(Buffer.from(text))).toEqual(JSON.parse(text));
  }
});

function encode(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

/** Keys count too. */
function countValues(value: unknown): number {
  if (Array.isArray(value)) return value.reduce((sum: number, item) => sum + countValues(item), 1);
  if (typeof value !== 'object' || value === null) return 1;
  return Object.values(value).reduce((sum: number, item) => sum + 1 + countValues(item), 1);
}
