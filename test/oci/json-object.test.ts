// JSON objects for a look.
import { expect, test } from 'vitest';
import { objectIn, parseObject } from '../../src/oci/json-object.ts';

test('finds objects in objects', () => {
  const document = parseObject(Buffer.from('{"a":{"b":1},"c":[],"d":null}'));
  expect(objectIn(document, 'a')).toEqual({ b: 1 });
  for (const key of ['c', 'd', 'e']) expect(objectIn(document, key)).toEqual({});
});

test.each(['', '{', '[]', 'null', '"a"'])('refuses %j', text => {
  expect(() => parseObject(Buffer.from(text))).toThrow(expect.objectContaining({ code: 'MANIFEST_INVALID' }));
});
