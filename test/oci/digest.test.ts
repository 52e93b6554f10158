// Digests: only canonical ones parse, and they are of the bytes.
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestAlgorithm, digestHex, digestOf, isDigest, parseDigest } from '../../src/oci/digest.ts';
import { RegistryError } from '../../src/oci/errors.ts';

const EMPTY = 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

test('gives the known digest of no bytes', () => {
  expect(digestOf(new Uint8Array())).toBe(EMPTY);
});

test('parses back what it makes, under both algorithms', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.constantFrom('sha256' as const, 'sha512' as const), (bytes, algorithm) => {
      const digest = digestOf(bytes, algorithm);
      expect(parseDigest(digest)).toBe(digest);
      expect(digestAlgorithm(digest)).toBe(algorithm);
      expect(digestHex(digest)).toBe(createHash(algorithm).update(bytes).digest('hex'));
    }),
  );
});

test.each([
  ['nothing', ''],
  ['no algorithm', EMPTY.slice(7)],
  ['upper case', `sha256:${'A'.repeat(64)}`],
  ['a short one', EMPTY.slice(0, -1)],
  ['a long one', `${EMPTY}0`],
  ['the length of the other algorithm', `sha512:${'0'.repeat(64)}`],
  ['an unregistered algorithm', `md5:${'0'.repeat(32)}`],
  ['a path', `sha256:../${'0'.repeat(61)}`],
  ['a line break at the end', `${EMPTY}\n`],
  ['a line before', `x\n${EMPTY}`],
])('refuses %s', (_name, text) => {
  expect(isDigest(text)).toBe(false);
  expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'DIGEST_INVALID', status: 400 }));
});

test('does not repeat long input in its message', () => {
  expect(() => parseDigest('x'.repeat(10_000))).toThrow(
    expect.toSatisfy(error => error instanceof RegistryError && error.message.length < 300),
  );
});
