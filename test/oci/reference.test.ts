// References: docker's grammar, and nothing that could leave a path.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RegistryError } from '../../src/oci/errors.ts';
import {
  formatReference,
  isRegistryHost,
  parseReference,
  parseRepository,
  parseTag,
  parseTagOrDigest,
  tagOrDigest,
} from '../../src/oci/reference.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;

test.each([
  ['busybox', { registry: undefined, repository: 'busybox', tag: 'latest', digest: undefined }],
  ['library/busybox:1.36', { registry: undefined, repository: 'library/busybox', tag: '1.36' }],
  ['ghcr.io/a/b', { registry: 'ghcr.io', repository: 'a/b', tag: 'latest' }],
  ['GHCR.io/a/b', { registry: 'ghcr.io', repository: 'a/b' }],
  ['localhost/a', { registry: 'localhost', repository: 'a' }],
  ['lab:5000/a:1', { registry: 'lab:5000', repository: 'a', tag: '1' }],
  ['[::1]:5000/a/b:1', { registry: '[::1]:5000', repository: 'a/b', tag: '1' }],
  ['lab:5000', { registry: undefined, repository: 'lab', tag: '5000' }],
  ['lab/a', { registry: undefined, repository: 'lab/a' }],
  [`a@${DIGEST}`, { repository: 'a', tag: undefined, digest: DIGEST }],
  [`127.0.0.1:5000/a:1@${DIGEST}`, { registry: '127.0.0.1:5000', repository: 'a', tag: '1', digest: DIGEST }],
])('parses %s', (text, expected) => {
  expect(parseReference(text)).toMatchObject(expected);
});

test.each([
  ['', 'NAME_INVALID'],
  [':1', 'NAME_INVALID'],
  ['A', 'NAME_INVALID'],
  ['a//b', 'NAME_INVALID'],
  ['a/../b', 'NAME_INVALID'],
  ['/a', 'NAME_INVALID'],
  ['a/', 'NAME_INVALID'],
  ['https://a.io/b', 'NAME_INVALID'],
  ['user@host.io/a@b', 'NAME_INVALID'],
  ['a:', 'TAG_INVALID'],
  ['a:-x', 'TAG_INVALID'],
  [`a:${'x'.repeat(129)}`, 'TAG_INVALID'],
  ['a@', 'DIGEST_INVALID'],
  ['a@sha256:00', 'DIGEST_INVALID'],
])('refuses "%s" as %s', (text, code) => {
  expect(() => parseReference(text)).toThrow(expect.objectContaining({ code }));
});

describe('repositories', () => {
  test.each(['a', 'a.b', 'a_b', 'a__b', 'a---b', 'a/b/c', '0', 'a'.repeat(255)])('accepts %s', text => {
    expect(parseRepository(text)).toBe(text);
  });

  test.each(['', '.', '..', 'a..b', 'a___b', '-a', 'a-', 'a.', 'A', 'a b', 'a\n', 'a%2fb', 'a'.repeat(256)])(
    'refuses "%s"',
    text => {
      expect(() => parseRepository(text)).toThrow(expect.objectContaining({ code: 'NAME_INVALID' }));
    },
  );
});

test('tells tags from digests', () => {
  expect(parseTagOrDigest('1.0_A-b')).toEqual({ tag: '1.0_A-b' });
  expect(parseTagOrDigest(DIGEST)).toEqual({ digest: DIGEST });
  expect(() => parseTagOrDigest('a:b')).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID' }));
  expect(() => parseTagOrDigest('a/b')).toThrow(expect.objectContaining({ code: 'TAG_INVALID' }));
  expect(() => parseTag('a\n')).toThrow(expect.objectContaining({ code: 'TAG_INVALID' }));
});

test.each([
  [`a:1@${DIGEST}`, DIGEST],
  ['a:1', '1'],
  ['a', 'latest'],
])('the path of %s ends in %s', (text, expected) => {
  expect(tagOrDigest(parseReference(text))).toBe(expected);
});

test.each([
  ['docker.io', true],
  ['lab:5000', true],
  ['localhost', true],
  ['[::1]', true],
  ['lab', false],
  ['a.b:', false],
  ['a.b:123456', false],
  ['a..b', false],
  ['user:secret@a.io', false],
  ['-a.b', false],
])('tells whether %s is a host', (component, expected) => {
  expect(isRegistryHost(component)).toBe(expected);
});

const word = fc.stringMatching(/^[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?$/);
const referenceText = fc
  .tuple(
    fc.constantFrom('', 'docker.io/', 'lab:5000/', 'localhost/', '[::1]:5000/'),
    fc.array(word, { minLength: 1, maxLength: 4 }),
    fc.option(fc.stringMatching(/^\w[\w.-]{0,20}$/)),
    fc.option(fc.stringMatching(/^[0-9a-f]{64}$/)),
  )
  .filter(([registry, [first = '']]) => registry !== '' || !first.includes('.'))
  .map(([registry, path, tag, hex]) => ({
    text: `${registry}${path.join('/')}${tag ? `:${tag}` : ''}${hex ? `@sha256:${hex}` : ''}`,
    expected: { registry: registry.slice(0, -1) || undefined, repository: path.join('/'), hex, tag },
  }));

test('finds the parts that a reference was made of, and writes them back', () => {
  fc.assert(
    fc.property(referenceText, ({ text, expected: { registry, repository, tag, hex } }) => {
      const reference = parseReference(text);
      expect(reference).toMatchObject({ registry, repository, tag: tag ?? (hex ? undefined : 'latest') });
      expect(formatReference(reference)).toBe(tag || hex ? text : `${text}:latest`);
    }),
  );
});

test('any text is a reference that can be written and read again, or a RegistryError', () => {
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[aA0.:/@_[\]-]{0,20}$/), fc.webUrl());
  fc.assert(
    fc.property(text, given => {
      try {
        const reference = parseReference(given);
        expect(parseReference(formatReference(reference))).toEqual(reference);
      } catch (error) {
        if (!(error instanceof RegistryError)) throw error;
      }
    }),
  );
});
