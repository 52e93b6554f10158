// Lists and maps from outside, and the documents that have them: measured first, and looked at up to their first fault.
import { expect, test } from 'vitest';
import { z } from 'zod';
import { parseJson as parseEditable } from '../../src/augment/json.ts';
import { parseDocument } from '../../src/hosted/repository/manifest-document.ts';
import { listSchema, mapSchema } from '../../src/oci/bounded.ts';
import { parseImageConfig } from '../../src/oci/image-config.ts';
import { parseObject } from '../../src/oci/json.ts';
import { parseManifest } from '../../src/oci/manifest.ts';
import { mediaTypes } from '../../src/oci/media-type.ts';

/** What was looked at. */
function watched() {
  const seen: unknown[] = [];
  const schema = z.unknown().refine(value => seen.push(value) > 0 && typeof value === 'string', 'must be a string');
  return { seen, schema };
}

test('a list is looked at up to its first fault, and not at all when it is too long', () => {
  const { seen, schema } = watched();
  expect(listSchema(schema, 5).safeParse(['a', 1, 2, 3]).error?.issues).toEqual([
    expect.objectContaining({ path: [1], message: 'must be a string' }),
  ]);
  expect(seen).toEqual(['a', 1]);
  expect(listSchema(schema, 5).safeParse([1, 2, 3, 4, 5, 6]).error?.issues).toHaveLength(1);
  expect(seen).toEqual(['a', 1]);
  expect(listSchema(schema, 5).parse(['a', 'b'])).toEqual(['a', 'b']);
});

test('so is a map, and it keeps every key', () => {
  const { seen, schema } = watched();
  expect(mapSchema(schema, 5).safeParse({ a: 'a', b: 1, c: 2 }).error?.issues).toEqual([
    expect.objectContaining({ path: ['b'], message: 'must be a string' }),
  ]);
  expect(seen).toEqual(['a', 1]);
  expect(mapSchema(schema, 1).safeParse({ a: 1, b: 2 }).error?.issues).toHaveLength(1);
  expect(seen).toEqual(['a', 1]);
  const odd = JSON.parse('{"__proto__":"a","constructor":"b"}');
  expect(Object.entries(Object(mapSchema(schema).parse(odd)))).toEqual(Object.entries(odd));
  for (const none of [null, 1, 'a', []]) expect(mapSchema(schema).safeParse(none).success).toBe(false);
});

const many = '0,'.repeat(2_000_000);
const bombs = [
  `[${many}0]`,
  `{"layers":[${many}0]}`,
  `{"manifests":[${'{},'.repeat(700_000)}{}]}`,
  `{"annotations":{${'"":0,'.repeat(800_000)}"a":0}}`,
  `{"config":{"Env":[${many}0]},"rootfs":{}}`,
  '['.repeat(4_000_000),
  `{"rootfs":${'{"a":'.repeat(500_000)}`,
];

test.each<[string, (raw: Uint8Array) => unknown]>([
  ['a manifest', raw => parseManifest(raw, mediaTypes.ociManifest)],
  ['a manifest that is pushed', raw => parseDocument(raw, mediaTypes.ociIndex)],
  ['a manifest of another type that is pushed', raw => parseDocument(raw, 'application/vnd.example.other')],
  ['an image config', parseImageConfig],
  ['a document that is edited', parseEditable],
  ['a document that is shown', parseObject],
])('%s of 4 MiB that is nothing but values is refused before it is parsed', (_, parse) => {
  for (const text of bombs) {
    expect(() => parse(Buffer.from(text))).toThrow(
      expect.objectContaining({
        code: 'MANIFEST_INVALID',
        message: expect.stringMatching(/it (has more than|nests deeper)/),
      }),
    );
  }
});

test('a fault in a list of a document is told by its field', () => {
  const config = (fields: object) => Buffer.from(JSON.stringify({ rootfs: { type: 'layers' }, ...fields }));
  expect(() => parseImageConfig(config({ config: { Env: ['A=b', 1] } }))).toThrow('config.Env');
  expect(() => parseImageConfig(config({ rootfs: { diff_ids: [{}] } }))).toThrow('rootfs.diff_ids');
});
