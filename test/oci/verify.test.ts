// Verification: only the promised bytes pass, however they are cut.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { ContentMismatch, createVerifier, verifyBytes } from '../../src/oci/verify.ts';

const bytes = Buffer.from('the promised bytes');
const digest = digestOf(bytes);

test('accepts the promised bytes in any chunks, under both algorithms', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array()),
      fc.constantFrom('sha256' as const, 'sha512' as const),
      (chunks, algorithm) => {
        const all = Buffer.concat(chunks);
        const verifier = createVerifier({ digest: digestOf(all, algorithm), size: all.byteLength });
        for (const chunk of chunks) verifier.update(chunk);
        verifier.finish();
        expect(verifier.size).toBe(all.byteLength);
      },
    ),
  );
});

test('refuses any other bytes, with and without a size', () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.boolean(), (other, hasSize) => {
      fc.pre(!bytes.equals(other));
      const expected = { digest, size: hasSize ? bytes.byteLength : undefined };
      expect(() => verifyBytes(other, expected)).toThrow(ContentMismatch);
    }),
  );
});

test('stops at the first byte too many, before the end', () => {
  const verifier = createVerifier({ digest, size: bytes.byteLength });
  verifier.update(bytes);
  expect(() => verifier.update(Buffer.from('!'))).toThrow(`more than the expected ${bytes.byteLength} bytes`);
});

test('tells a body that ended early from a changed one', () => {
  expect(() => verifyBytes(bytes.subarray(1), { digest, size: bytes.byteLength })).toThrow('17 bytes instead of');
  expect(() => verifyBytes(Buffer.from('THE PROMISED BYTES'), { digest, size: 18 })).toThrow('the bytes have digest');
});

test('a right digest does not excuse a wrong size', () => {
  expect(() => verifyBytes(bytes, { digest, size: bytes.byteLength + 1 })).toThrow(ContentMismatch);
  expect(() => verifyBytes(bytes, { digest, size: 0 })).toThrow(ContentMismatch);
});
