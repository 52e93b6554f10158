// WWW-Authenticate headers: several in one, quoted, folded, broken.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { findChallenge, parseChallenges } from '../../src/upstream/auth/token-server.ts';
import { measureThreadMs } from '../support/thread-time.ts';

test('reads several challenges with quoted commas and escapes', () => {
  const [basic, bearer] = parseChallenges('Basic realm="a, b=\\"c\\"", BEARER Realm=x , scope="p:q:pull,push"');
  expect([basic?.scheme, basic?.parameters.get('realm')]).toEqual(['basic', 'a, b="c"']);
  expect([bearer?.scheme, bearer?.parameters.get('realm')]).toEqual(['bearer', 'x']);
  expect(bearer?.parameters.get('scope')).toBe('p:q:pull,push');
});

test.each([
  ['Basic realm="x", Bearer realm="y"', 'bearer'],
  ['Digest a=b, basic', 'basic'],
  ['Basic realm="x", Bearer authorization_uri="y"', 'basic'],
  ['Bearer authorization_uri="y"', 'bearer'],
  ['Negotiate YII/abc+de==, BASIC Realm=x', 'basic'],
  [', ;Bearer realm="y";service=z', 'bearer'],
  ['Negotiate', undefined],
  ['', undefined],
])('answers of %s the challenge %s', (header, scheme) => {
  expect(findChallenge(header)?.scheme).toBe(scheme);
});

const token = fc.stringMatching(/^[a-z0-9!#$%&'*+.^_`|~-]{1,12}$/);
const value = fc.string({ maxLength: 40 }).filter(text => !/[\r\n\u2028\u2029]/.test(text));
const challenge = fc.record({
  scheme: token,
  parameters: fc.uniqueArray(fc.tuple(token, value), { maxLength: 5, selector: ([name]) => name }),
});

test('reads what was written, whatever it is', () => {
  fc.assert(
    fc.property(fc.array(challenge, { maxLength: 4 }), challenges => {
      const header = challenges.map(({ scheme, parameters }) => `${scheme} ${parameters.map(write).join(', ')}`);
      const read = parseChallenges(header.join(', '));
      expect(read.map(({ scheme, parameters }) => ({ scheme, parameters: [...parameters] }))).toEqual(challenges);
    }),
  );
});

function write([name, text]: readonly [string, string]): string {
  return `${name}="${text.replace(/["\\]/g, '\\$&')}"`;
}

test('reads any text without an error', () => {
  const pieces = fc.constantFrom('Bearer', ' ', '=', '"', '\\', ',', 'realm', '\t', 'é', '\0', 'a');
  const text = fc.oneof(
    fc.string(),
    fc.array(pieces).map(parts => parts.join('')),
  );
  fc.assert(
    fc.property(text, header => {
      expect(parseChallenges(header).every(({ scheme }) => scheme !== '')).toBe(true);
    }),
  );
});

test.each(['a', ' ', '=', '"', '\\', ',', 'a ', 'a=', 'a="', 'a="\\', ' ,', 'a , ', '"\\"'])(
  'reads a header of 200 000 times %j at once',
  piece => {
    expect(measureThreadMs(() => parseChallenges(`Bearer ${piece.repeat(200_000)}`))).toBeLessThan(2000);
  },
);
