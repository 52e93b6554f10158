// Errors: each code has its status, and an upstream's own may take its place.
import { expect, test } from 'vitest';
import { isErrorCode, RegistryError } from '../../src/oci/errors.ts';

test.each([
  ['MANIFEST_UNKNOWN', 404],
  ['BLOB_UNKNOWN', 404],
  ['NAME_INVALID', 400],
  ['UNAUTHORIZED', 401],
  ['DENIED', 403],
  ['UNSUPPORTED', 405],
  ['RANGE_INVALID', 416],
  ['TOOMANYREQUESTS', 429],
  ['UNKNOWN', 500],
  ['UNAVAILABLE', 503],
] as const)('%s has status %d', (code, status) => {
  expect(new RegistryError(code, 'no').status).toBe(status);
});

test('keeps what it is given', () => {
  const cause = new Error('socket hang up');
  const error = new RegistryError('UNKNOWN', 'no', { status: 502, detail: { tag: 'a' }, retryAfterSeconds: 3, cause });
  expect(error).toMatchObject({ status: 502, detail: { tag: 'a' }, retryAfterSeconds: 3, name: 'RegistryError' });
  expect(error.cause).toBe(cause);
});

test('has no cause of its own making', () => {
  expect('cause' in new RegistryError('UNKNOWN', 'no')).toBe(false);
});

test.each([
  ['DENIED', true],
  ['denied', false],
  ['constructor', false],
  ['', false],
])('tells whether "%s" is a code', (text, expected) => {
  expect(isErrorCode(text)).toBe(expected);
});
