// Patterns of recipes: which names they match, and with what values.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InvalidRecipe, parsePattern } from '../../../src/builds/recipes/pattern.ts';
import { measureThreadMs } from '../../support/thread-time.ts';

test.each<[string, string, string, Record<string, string> | undefined]>([
  ['local/tools/{name}:{version}', 'local/tools/jq', '1.7', { name: 'jq', version: '1.7' }],
  ['local/tools/{name}:{version}', 'local/tools/a/b', '1.7', undefined],
  ['local/tools/{name}:{version}', 'local/other/jq', '1.7', undefined],
  ['local/tools/{name}:{version}', 'my/local/tools/jq', '1.7', undefined],
  ['local/tools/jq:latest', 'local/tools/jq', 'latest', {}],
  ['local/tools/jq:latest', 'local/tools/jq', 'late', undefined],
  ['local/tools/jq:*', 'local/tools/jq', 'anything', {}],
  ['local/tools/a.c:1', 'local/tools/abc', '1', undefined],
  ['local/{a}-{b}:v{n}', 'local/foo-bar-baz', 'v2', { a: 'foo-bar', b: 'baz', n: '2' }],
  ['local/{a}-{b}:v{n}', 'local/foo', 'v2', undefined],
  ['local/{a}:v{n}', 'local/foo', 'v', undefined],
  ['local/*-tool:{v}', 'local/my-tool', '1', { v: '1' }],
  ['local/*/{b}:{v}', 'local/x/y', '1', { b: 'y', v: '1' }],
  ['docker.io/library/{name}:{tag}', 'docker.io/library/alpine', '3', { name: 'alpine', tag: '3' }],
  ['registry.example:5000/{name}:{tag}', 'registry.example:5000/app', '3', { name: 'app', tag: '3' }],
  ['quay.io/{path...}:{tag}', 'quay.io/a/b/c', '3', { path: 'a/b/c', tag: '3' }],
  ['quay.io/{path...}:{tag}', 'quay.io', '3', undefined],
  ['quay.io/{path...}/x/{end}:*', 'quay.io/a/b/x/c', '3', { path: 'a/b', end: 'c' }],
  ['quay.io/{path...}/x/{end}:*', 'quay.io/x/c', '3', undefined],
  ['quay.io/**/app:*', 'quay.io/a/b/app', '3', {}],
  ['quay.io/**/app:*', 'quay.io/app', '3', undefined],
])('%s of %s:%s', (pattern, repository, tag, expected) => {
  const values = parsePattern(pattern).match(repository, tag);
  expect(values && Object.fromEntries(values)).toEqual(expected);
  if (expected) expect(parsePattern(pattern).matchesRepository(repository)).toBe(true);
});

test.each([
  ['local/tools/{name}', 'has no tag'],
  ['registry.example:5000/{name}', 'has no tag'],
  ['jq:1', 'names no registry'],
  ['local//jq:1', 'has an empty component'],
  ['local/jq:', 'has an empty component'],
  ['local/{a}/{a}:1', 'has {a} twice'],
  ['local/{a}:{a}', 'has {a} twice'],
  ['local/{a}{b}:1', 'has two wildcards with nothing between them in "{a}{b}"'],
  ['local/{a}*:1', 'has two wildcards with nothing between them'],
  ['local/**-x:1', 'has two wildcards with nothing between them'],
  ['local/{a...}/{b...}:1', 'has "{b...}"'],
  ['local/x{a...}:1', 'has "{a...}"'],
  ['local/x:{a...}', 'has "{a...}"'],
  ['local/{}:1', 'has "{}"'],
  ['local/{1}:1', 'has "{1}"'],
  ['local/{a:1', 'has "{a"'],
  ['local/[ab]:1', 'has "[ab]"'],
  ['local/a b:1', 'has "a b"'],
  ['local/{a}-{b}-{c}-{d}:1', 'has more than 3 wildcards in'],
])('refuses %s, which %s', (pattern, reason) => {
  expect(() => parsePattern(pattern)).toThrow(InvalidRecipe);
  expect(() => parsePattern(pattern)).toThrow(`the pattern "${pattern}" ${reason}`);
});

test('takes any text for a pattern or refuses it as one', () => {
  const piece = fc.constantFrom('a', '/', ':', '{', '}', '*', '{x}', '{y...}', '**', '.', '-', '(', '\\', '$', '\0');
  fc.assert(
    fc.property(
      fc.array(piece).map(pieces => pieces.join('')),
      fc.string(),
      fc.string(),
      (text, repository, tag) => {
        try {
          parsePattern(text).match(repository, tag);
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidRecipe);
        }
      },
    ),
  );
});

test('matches a long name that is made for it in no time', () => {
  const pattern = parsePattern('local/*a*a*b:*-*-*x');
  const match = () => expect(pattern.match(`local/${'a'.repeat(250)}`, '-'.repeat(128))).toBeUndefined();
  expect(measureThreadMs(match)).toBeLessThan(1000);
});
