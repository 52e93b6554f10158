// Secrets in what a build tells: none is left, in any form that tools print.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRedaction } from '../../../src/build/make/redaction.ts';

const secret = 'p@ss word/+"é';

test.each([
  ['as it is', secret],
  ['in base64', Buffer.from(secret).toString('base64')],
  ['in base64 without its end', Buffer.from(secret).toString('base64').replace(/=+$/, '')],
  ['in base64 for URLs', Buffer.from(secret).toString('base64url')],
  ['in a URL', encodeURIComponent(secret)],
  ['in a form', encodeURIComponent(secret).replaceAll('%20', '+')],
  ['in a URL of lower case', encodeURIComponent(secret).replaceAll(/%[0-9A-F]{2}/g, code => code.toLowerCase())],
  ['in JSON', JSON.stringify(secret).slice(1, -1)],
])('hides a secret %s', (_name, form) => {
  expect(createRedaction([secret])(`a ${form} b ${form}`)).toBe('a *** b ***');
});

test('hides a file without the line break at its end, and each of its lines', () => {
  const redact = createRedaction([Buffer.from('-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\n}\n')]);
  expect(redact('key MIIEpAIBAAKCAQEA }')).toBe('key *** }');
  expect(createRedaction(['token\n'])('the token.')).toBe('the ***.');
});

test('hides the longer of two secrets that begin alike', () => {
  expect(createRedaction(['abcd', 'abcdefgh'])('abcdefgh abcd')).toBe('*** ***');
});

test('leaves text alone without secrets, and with empty ones', () => {
  expect(createRedaction([])('text')).toBe('text');
  expect(createRedaction(['', '\n', new Uint8Array()])('text')).toBe('text');
});

test('hides bytes that are no text in their base64', () => {
  const bytes = Uint8Array.from([255, 0, 254, 1, 253]);
  expect(createRedaction([bytes])(`x${Buffer.from(bytes).toString('base64')}`)).toBe('x***');
});

test('leaves no secret in any text', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 4 }), fc.string(), fc.string(), (value, before, after) => {
      fc.pre(value.trim() !== '' && !value.includes('*'));
      return !createRedaction([value])(`${before}${value}${after}`).includes(value);
    }),
  );
});
