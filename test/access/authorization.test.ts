// The Authorization header: what is taken, and that the rest is refused without a word of it.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseAuthorization } from '../../src/access/authorization.ts';
import { RegistryError } from '../../src/oci/errors.ts';
import { basic } from './fixture.ts';

test('no header is no credentials', () => {
  expect(parseAuthorization(undefined)).toBeUndefined();
});

test.each([
  ['a name and a password', basic('ci', 'secret'), 'ci', 'secret'],
  ['a password with colons', basic('ci', 'a:b:c'), 'ci', 'a:b:c'],
  ['an empty name', basic('', 'secret'), '', 'secret'],
  ['UTF-8', basic('jörg', 'pässwörd €'), 'jörg', 'pässwörd €'],
  ['a byte order mark, which is part of the name', basic('\uFEFFci', 'x'), '\uFEFFci', 'x'],
  ['a scheme in any case', basic('ci', 'secret').replace('Basic', 'bAsIc'), 'ci', 'secret'],
])('Basic: %s', (_name, header, username, password) => {
  expect(parseAuthorization(header)).toEqual({ kind: 'password', username, password });
});

test('Bearer: the token', () => {
  expect(parseAuthorization('bearer  aA0._~+/-=')).toEqual({ kind: 'bearer', token: 'aA0._~+/-=' });
});

const SECRET = 'canary-password';

test.each([
  ['empty', ''],
  ['another scheme', `Digest ${SECRET}`],
  ['no value', 'Basic'],
  ['two values', `Bearer ${SECRET} ${SECRET}`],
  ['no base64', `Basic ${SECRET}:`],
  ['no colon', `Basic ${btoa(SECRET)}`],
  ['no UTF-8', `Basic ${Buffer.from([0xff, 0x3a, 0x61]).toString('base64')}`],
  ['a NUL in the password', basic('ci', `${SECRET}\0`)],
  ['a line break in the name', basic(`c\n${SECRET}`, 'x')],
  ['a name of 256 characters', basic('a'.repeat(256), SECRET)],
  ['a password of 8193 characters', basic('ci', SECRET.padEnd(8193, 'x'))],
  ['a header of more than 16 KiB', `Bearer ${SECRET.repeat(1200)}`],
  ['a token with characters that none has', `Bearer "${SECRET}"`],
])('%s is refused, and not quoted', (_name, header) => {
  expect(() => parseAuthorization(header)).toThrow(expect.objectContaining({ code: 'UNAUTHORIZED' }));
  expect(() => parseAuthorization(header)).not.toThrow(SECRET);
});

describe('any header', () => {
  test('gives credentials within the limits, or UNAUTHORIZED', () => {
    const header = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.tuple(fc.constantFrom('Basic ', 'Bearer ', 'basic\t'), fc.string()).map(parts => parts.join('')),
      fc.uint8Array().map(bytes => `Basic ${Buffer.from(bytes).toString('base64')}`),
    );
    fc.assert(
      fc.property(header, text => {
        try {
          const credentials = parseAuthorization(text);
          if (credentials?.kind !== 'password') return /^[\x21-\x7e]+$/.test(credentials?.token ?? '');
          return !/\p{Cc}/u.test(credentials.username + credentials.password);
        } catch (error) {
          return error instanceof RegistryError && error.code === 'UNAUTHORIZED';
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('of Basic brings back the name and password that went in', () => {
    const word = fc.string({ maxLength: 100 }).filter(text => !/\p{Cc}/u.test(text) && text.isWellFormed());
    fc.assert(
      fc.property(
        word.filter(name => !name.includes(':')),
        word,
        (username, password) => {
          expect(parseAuthorization(basic(username, password))).toEqual({ kind: 'password', username, password });
        },
      ),
    );
  });
});
