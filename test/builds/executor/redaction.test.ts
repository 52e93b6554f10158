// Secrets in what a build tells: none is left, in any form that tools print.
import { randomBytes } from 'node:crypto';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createRedaction } from '../../../src/builds/executor/redaction.ts';
import { createLineSplitter } from '../../../src/builds/process.ts';

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
  ['in an error', inspect(secret).slice(1, -1)],
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

test.each([0, 1, 2, 3, 4])('hides a password in the base64 of a user of %i characters with it', length => {
  const password = 'correct-horse';
  const auth = Buffer.from(`${'u'.repeat(length)}:${password}`).toString('base64');
  const left = Buffer.from(
    createRedaction([password])(`"auth":"${auth}"`).split('"')[3]?.split('***').join('') ?? '',
    'base64',
  );
  expect(left.toString()).not.toMatch(/correct|horse/);
});

const BUNDLE = Array.from({ length: 400 }, () => randomBytes(48).toString('base64')).join('\n');
const ONE_LINE = randomBytes(24 * 1024).toString('base64');

test.each([
  ['of many lines', BUNDLE],
  ['of one line', ONE_LINE],
  ['of the same characters', '='.repeat(32 * 1024)],
])('takes a secret of 32 KiB %s', (_name, large) => {
  const redact = createRedaction([large, `${large}\n`, 'other']);
  expect(redact(`a ${large} b`)).toBe('a *** b');
  expect(redact(`a ${large.slice(5_000, 5_064)} b other`)).toMatch(/^a (\*\*\*\n?)+ b \*\*\*$/);
});

test('hides what is in front of a cut', () => {
  const redact = createRedaction(['correct-horse-battery', ONE_LINE]);
  expect(redact(`"RUN login corre… ended`)).toBe('"RUN login ***… ended');
  for (const length of [4, 15, 16, 31, 9_000]) expect(redact(`x ${ONE_LINE.slice(0, length)}…`)).toBe('x ***…');
});

test('leaves no piece of a secret in the lines of a step, however its output comes and is cut', () => {
  const text = fc.string({ unit: 'grapheme', maxLength: 40 });
  const secrets = fc.oneof(
    fc.string({ unit: 'binary-ascii', minLength: 8, maxLength: 200 }),
    fc
      .array(fc.base64String({ minLength: 64, maxLength: 64 }), { minLength: 1, maxLength: 40 })
      .map(all => all.join('\n')),
  );
  const outputs = fc.tuple(secrets, text, text, fc.array(fc.nat(2_000)), fc.integer({ min: 100, max: 3_000 }));
  fc.assert(
    fc.property(outputs, ([value, before, after, cuts, maxLength]) => {
      // Nothing else of the output is to look like a piece of it.
      fc.pre(new Set(value).size > 4 && !value.includes('*') && !value.includes('…'));
      const redact = createRedaction([value]);
      const lines: string[] = [];
      const splitter = createLineSplitter(line => lines.push(redact(line)), maxLength);
      const bytes = Buffer.from(`${before}${value}${after}\n${Buffer.from(value).toString('base64')}\n`);
      const places = [0, ...cuts.filter(cut => cut < bytes.byteLength).sort((a, b) => a - b), bytes.byteLength];
      for (const [i, place] of places.entries()) splitter.write(bytes.subarray(place, places[i + 1]));
      splitter.end();
      for (const piece of piecesOf(value)) expect(lines.filter(line => line.includes(piece))).toEqual([]);
    }),
  );
});

/** Everything of a secret that may be in no line: of each of its lines and of its base64, what is as long as tells something. */
function piecesOf(value: string): readonly string[] {
  const wholes = [...value.split(/[\r\n]/), Buffer.from(value).toString('base64')].map(line => line.trim());
  return wholes.flatMap(whole =>
    whole.length < 31 ? (whole.length < 8 ? [] : [whole]) : [whole.slice(0, 31), whole.slice(-31)],
  );
}

test('leaves no secret in any text', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 4 }), fc.string(), fc.string(), (value, before, after) => {
      fc.pre(value.trim() !== '' && !value.includes('*'));
      return !createRedaction([value])(`${before}${value}${after}`).includes(value);
    }),
  );
});
