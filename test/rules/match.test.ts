// Which rules are for an image, and what is said of it.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InvalidPattern, parseImagePattern } from '../../src/oci/image-pattern.ts';
import { createMatcher } from '../../src/rules/rule-set.ts';
import type { RuleMatch } from '../../src/rules/rules.ts';

interface Row {
  readonly image?: string;
  readonly not?: string;
  readonly caller?: string;
}

function judge({ image = '**', not, caller }: Row, pulled: string, name?: string) {
  const [repository = '', tag] = pulled.split(/:(?=[^/]*$)/);
  const match: RuleMatch = { image: image.split(' '), not: not?.split(' ') ?? [], caller: caller?.split(' ') };
  return createMatcher(match).judge({ repository, tag, caller: name });
}

test.each([
  ['docker.io/**', 'docker.io/library/alpine:3', true, 'image docker.io/** matches'],
  ['docker.io/**', 'ghcr.io/org/tool:1', false, 'no pattern of images matches ghcr.io/org/tool:1'],
  ['docker.io/library/*', 'docker.io/library/alpine:3', true, 'image docker.io/library/* matches'],
  ['ghcr.io/*', 'ghcr.io/org/tool:1', false, 'no pattern of images matches ghcr.io/org/tool:1'],
  ['**', 'a/b:1', true, 'image ** matches'],
  ['ghcr.io/a/b docker.io/**', 'docker.io/x/y:1', true, 'image docker.io/** matches'],
  [
    'docker.io/library/{alpine,debian}',
    'docker.io/library/debian:1',
    true,
    'image docker.io/library/{alpine,debian} matches',
  ],
  ['docker.io/library/alpine', 'docker.io/library/alpine:any', true, 'image docker.io/library/alpine matches'],
  [
    'docker.io/library/alpine',
    'docker.io/library/alpine2:1',
    false,
    'no pattern of images matches docker.io/library/alpine2:1',
  ],
  ['docker.io/library/alpine:3*', 'docker.io/library/alpine:3.19', true, 'image docker.io/library/alpine:3* matches'],
  [
    'docker.io/library/alpine:3*',
    'docker.io/library/alpine:edge',
    false,
    'no pattern of images matches docker.io/library/alpine:edge',
  ],
  [
    'docker.io/library/alpine:{3,4}',
    'docker.io/library/alpine:4',
    true,
    'image docker.io/library/alpine:{3,4} matches',
  ],
  ['**:latest', 'ghcr.io/a/b:latest', true, 'image **:latest matches'],
  ['localhost:5000/**', 'localhost:5000/app:1', true, 'image localhost:5000/** matches'],
  [
    'docker.io/library/alpine:3',
    'docker.io/library/alpine',
    false,
    'image docker.io/library/alpine:3 matches tags, but a digest was requested',
  ],
  ['docker.io/library/alpine', 'docker.io/library/alpine', true, 'image docker.io/library/alpine matches'],
  ['docker.io/library/alpine', 'ghcr.io/x/y', false, 'no pattern of images matches ghcr.io/x/y'],
])('%s is looked for in %s: %s', (image, pulled, applies, reason) => {
  expect(judge({ image }, pulled)).toEqual({ applies, reason });
});

test.each([
  ['docker.io/library/scratch*', 'docker.io/library/scratch:1', false, 'not: docker.io/library/scratch* matches'],
  ['docker.io/library/scratch*', 'docker.io/library/alpine:1', true, 'image ** matches'],
  [
    'docker.io/library/alpine:edge',
    'docker.io/library/alpine:edge',
    false,
    'not: docker.io/library/alpine:edge matches',
  ],
  ['docker.io/library/alpine:edge', 'docker.io/library/alpine:3', true, 'image ** matches'],
  ['docker.io/library/alpine:edge', 'docker.io/library/alpine', true, 'image ** matches'],
])('not %s, for %s: %s', (not, pulled, applies, reason) => {
  expect(judge({ not }, pulled)).toEqual({ applies, reason });
});

test.each([
  ['alice', 'alice', true, 'image ** and caller alice match'],
  ['alice', 'bob', false, 'no pattern of callers matches bob'],
  ['alice', undefined, false, 'no pattern of callers matches anonymous'],
  ['anonymous', undefined, true, 'image ** and caller anonymous match'],
  ['*', undefined, true, 'image ** and caller * match'],
  ['ci-* token:*', 'token:4f1', true, 'image ** and caller token:* match'],
  ['ci-*', 'ci-a/b', true, 'image ** and caller ci-* match'],
  ['*@example.com', 'a.b@example.com', true, 'image ** and caller *@example.com match'],
])('callers %s, for %s: %s', (caller, name, applies, reason) => {
  expect(judge({ caller }, 'a/b:1', name)).toEqual({ applies, reason });
});

describe('an image that is named by its digest', () => {
  test.each([
    ['a pattern of its name', { image: 'a/b' }, true],
    ['a pattern of one of its tags, which it may have had', { image: 'a/b:1' }, true],
    ['a pattern of another name', { image: 'a/c' }, false],
    ['a name that is left alone', { not: 'a/b' }, false],
    ['one of its tags that is left alone', { not: 'a/b:1' }, true],
    ['a caller', { caller: 'alice' }, true],
    ['another caller', { caller: 'bob' }, false],
  ])('may be meant by %s', (_, { image = '**', not, caller }: Row, expected) => {
    const matcher = createMatcher({ image: [image], not: not ? [not] : [], caller: caller ? [caller] : undefined });
    expect(matcher.mayMatch({ repository: 'a/b', caller: 'alice' })).toBe(expected);
  });
});

const word = fc.stringMatching(/^[a-z0-9]{1,8}$/);
const repository = fc.array(word, { minLength: 2, maxLength: 4 }).map(words => words.join('/'));
const tag = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,10}$/);

test('a name without a glob is its own pattern, with its tag and without, and no other name is', () => {
  fc.assert(
    fc.property(repository, repository, tag, (own, other, of) => {
      const { matches, matchesName } = parseImagePattern(own);
      const ofTag = parseImagePattern(`${own}:${of}`);
      expect([matches(own, of), matches(own, undefined), matchesName(own)]).toEqual([true, true, true]);
      expect([ofTag.matches(own, of), ofTag.matches(own, undefined), ofTag.matchesName(own)]).toEqual([
        true,
        false,
        true,
      ]);
      expect([matches(other, of), ofTag.matches(other, of)]).toEqual([own === other, own === other]);
    }),
  );
});

test('** is for every image, and what is left alone has the last word', () => {
  fc.assert(
    fc.property(repository, fc.option(tag, { nil: undefined }), (pulled, of) => {
      expect(judge({}, of ? `${pulled}:${of}` : pulled).applies).toBe(true);
      expect(judge({ not: pulled }, of ? `${pulled}:${of}` : pulled).applies).toBe(false);
    }),
  );
});

test('* is for one component', () => {
  fc.assert(
    fc.property(fc.array(word, { minLength: 2, maxLength: 4 }), words => {
      expect(parseImagePattern(`${words[0]}/*`).matchesName(words.join('/'))).toBe(words.length === 2);
    }),
  );
});

test('any text is a pattern, or is refused with a reason, at once', () => {
  const pieces = fc.constantFrom(
    '*',
    '**',
    '/',
    ':',
    '{',
    '}',
    ',',
    '[',
    ']',
    '(',
    ')',
    '!',
    '?',
    '+',
    '@',
    '|',
    'a',
    'docker.io',
    '..',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(pieces, { maxLength: 12 }).map(parts => parts.join('')),
      ),
      text => {
        try {
          const pattern = parseImagePattern(text);
          expect(typeof pattern.matches('docker.io/library/alpine', '3')).toBe('boolean');
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidPattern);
        }
      },
    ),
    { numRuns: 2000 },
  );
});
