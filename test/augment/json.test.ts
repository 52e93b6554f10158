// JSON that is edited as text: nothing that no edit names changes, and nothing unclear is taken.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  itemsOf,
  type Json,
  membersOf,
  parseJson,
  toJson,
  toList,
  toValue,
  withMembers,
} from '../../src/augment/json.ts';
import { RegistryError } from '../../src/oci/errors.ts';

const parse = (text: string) => parseJson(Buffer.from(text));

test.each([
  ['an integer that no float holds', '9007199254740993'],
  ['a number that is too large', '1e400'],
  ['a number of other digits', '-1.50E+02'],
  ['a string with escapes', String.raw`"\u0041\\\"\/\ud800 ]},"`],
  ['keys that look like places of a list', '{"b":1,"2":1,"1":1}'],
  ['a key that is a trap', '{"__proto__":{"a":1},"constructor":2}'],
  ['spaces and line ends', '[ 1 ,\n\t{ } , [ ] ]'],
])('keeps %s, as it is written', (_, value) => {
  const json = withMembers(parse(`{"a": 1, "kept": ${value} , "z": {}}`), { a: toJson(2) });
  expect(json.text).toBe(`{"a":2,"kept":${value},"z":{}}`);
});

test('changes members in their place, and puts new ones at the end', () => {
  const json = parse('{"b":1,"a":2,"c":3}');
  const changed = withMembers(json, {
    d: toJson('new'),
    a: toList([toJson(1), ...itemsOf(parse('[2.0]'))]),
    c: undefined,
  });
  expect(changed.text).toBe('{"b":1,"a":[1,2.0],"c":3,"d":"new"}');
  expect([...membersOf(changed)].map(([key, { text }]) => [key, text])).toContainEqual(['a', '[1,2.0]']);
});

test.each([undefined, parse('null')])('takes nothing (%j) for an empty object and an empty list', nothing => {
  expect(withMembers(nothing, { a: toJson(1) }).text).toBe('{"a":1}');
  expect(itemsOf(nothing)).toEqual([]);
});

test.each<[string, () => unknown]>([
  ['a list as an object', () => withMembers(parse('[]'), {})],
  ['a text as an object', () => membersOf(parse('"x"'))],
  ['an object as a list', () => itemsOf(parse('{}'))],
  ['a key twice', () => parse('{"a":1,"a":1}')],
  ['a key twice, once with escapes', () => parse(String.raw`{"a":1,"\u0061":2}`)],
  ['a key twice, far within', () => parse('[{"x":[{"__proto__":1,"__proto__":2}]}]')],
  ['no JSON', () => parse('{a:1}')],
  ['two documents', () => parse('{}{}')],
  ['a mark of the byte order', () => parse('\ufeff{}')],
  ['what is not UTF-8', () => parseJson(Buffer.from([0x22, 0xff, 0x22]))],
  ['a very deep one', () => parse('['.repeat(200_000) + ']'.repeat(200_000))],
])('refuses %s', (_, work) => {
  expect(work).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }));
});

const spaced = fc.tuple(fc.json(), fc.constantFrom(0, 1, '\t')).map(([text, space]) => {
  return JSON.stringify(JSON.parse(text), null, space);
});

test('reads any JSON to the same value and the same text', () => {
  fc.assert(
    fc.property(spaced, text => {
      const json = parse(` ${text}\n`);
      expect(json.text).toBe(text);
      expect(toValue(json)).toEqual(JSON.parse(text));
      expect(textsWithin(json).every(part => text.includes(part))).toBe(true);
    }),
  );
});

test('edits as a Map would, whatever the keys', () => {
  const key = fc.oneof(fc.string(), fc.constantFrom('__proto__', '1', '0', 'a'));
  const entries = fc.uniqueArray(fc.tuple(key, fc.integer()), { selector: ([name]) => name });
  fc.assert(
    fc.property(entries, entries, (source, changes) => {
      const write = (list: typeof source) => `{${list.map(([name, value]) => `${JSON.stringify(name)}:${value}`)}}`;
      const changed = Object.fromEntries(changes.map(([name, value]) => [name, toJson(value)]));
      const expected = new Map(source);
      for (const name of Object.keys(changed)) expected.set(name, new Map(changes).get(name) ?? 0);
      expect(withMembers(parse(write(source)), changed).text).toBe(write([...expected]));
    }),
  );
});

test('any bytes are JSON or a RegistryError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), fc.json().map(Buffer.from), fc.string().map(Buffer.from)), raw => {
      try {
        expect(parseJson(raw).text.length).toBeGreaterThan(0);
      } catch (error) {
        expect(error).toBeInstanceOf(RegistryError);
      }
    }),
  );
});

function textsWithin({ text, members, items = [] }: Json): readonly string[] {
  return [text, ...[...(members?.values() ?? []), ...items].flatMap(textsWithin)];
}
