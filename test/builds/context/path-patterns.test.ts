// Patterns of .dockerignore: what docker says of the same ones, and how much work they can be.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { createPathPatterns, InvalidPathPattern, linesOf } from '../../../src/builds/context/path-patterns.ts';
import { createWork, WorkLimitExceeded } from '../../../src/builds/work.ts';
import { plentyOfWork } from '../../support/plenty-of-work.ts';

const strings = z.array(z.string());
const places = z.array(z.number());
const [first = '', ...recorded] = readFileSync('fixtures/patterns/dockerignore.txt', 'utf8').trim().split('\n');
const PATHS = strings.parse(JSON.parse(first.slice('# paths: '.length)));
const FILES = recorded.map(line => {
  const [file = '', matches = ''] = line.split(' => ');
  return {
    file,
    lines: strings.parse(JSON.parse(file)),
    matches: matches === 'refused' ? undefined : places.parse(JSON.parse(matches)).map(at => PATHS[at]),
  };
});

async function matching(texts: readonly string[], paths: readonly string[]): Promise<readonly string[]> {
  const patterns = createPathPatterns(texts, plentyOfWork());
  const found: string[] = [];
  for (const path of paths) if (await patterns.match(path)) found.push(path);
  return found;
}

test.each(FILES)('the ignore file $file leaves out what docker leaves out', async ({ lines, matches }) => {
  const matched = async () => matching(linesOf(lines.join('\n')), PATHS);
  if (matches === undefined) await expect(matched()).rejects.toThrow(InvalidPathPattern);
  else expect(await matched()).toEqual(matches);
});

/** As docker does it: by a regular expression, which is slow for some, but for none as short as these. */
function expressionOf(pattern: string): RegExp {
  const source = pattern.replaceAll(/\*\*\/?$|\*\*\/?|\*|\?|\[\^?[ab]+\]|[.+]/g, part => {
    if (part.startsWith('[')) return part;
    if (part === '*') return '[^/]*';
    if (part === '?') return '[^/]';
    return part.startsWith('**') ? '(.*/)?' : `\\${part}`;
  });
  return new RegExp(`^${pattern.endsWith('**') ? source.replace(/\(\.\*\/\)\?$/, '.*') : source}$`, 'u');
}

const piece = fc.constantFrom('a', 'b', '*', '**', '?', '[ab]', '[^a]', '.', '+');
const components = (part: fc.Arbitrary<string>) =>
  fc
    .array(
      fc.array(part, { minLength: 1, maxLength: 3 }).map(parts => parts.join('')),
      { minLength: 1, maxLength: 4 },
    )
    .filter(parts => parts.every(text => !/^\.{1,2}$/.test(text)))
    .map(parts => parts.join('/'));

test('matches what the regular expression of a pattern matches, and all below it', async () => {
  const property = fc.asyncProperty(
    // A pattern that begins with ** and has nothing else is docker's special case, which the recorded ones show.
    components(piece).filter(pattern => !/^\*\*[^/*]/.test(pattern)),
    components(fc.constantFrom('a', 'b', 'c', '.', '+')),
    async (pattern, path) => {
      const parents = path.split('/').map((_, i, parts) => parts.slice(0, i + 1).join('/'));
      const expected = parents.some(parent => expressionOf(pattern).test(parent));
      expect(await matching([pattern], [path])).toEqual(expected ? [path] : []);
    },
  );
  await fc.assert(property, { numRuns: 3000 });
});

test.each([
  ['stars', '*a'.repeat(60), 'a'.repeat(250)],
  ['stars that match nearly', `${'*a'.repeat(60)}b`, 'a'.repeat(250)],
  ['stars of directories', '**/a*/'.repeat(40), 'a/'.repeat(120)],
  ['classes', `${'*[ab]'.repeat(60)}c`, 'ab'.repeat(120)],
])('%s take no more steps than the product of both lengths', async (_, pattern, path) => {
  const work = createWork({ maxSteps: pattern.length * path.length, what: 'a test' });
  await createPathPatterns([pattern], work).match(path);
});

test('ends with a reason where there is too much work, or somebody stops it', async () => {
  const patterns = Array.from({ length: 1000 }, (_, i) => `${'*a'.repeat(200)}${i}`);
  const path = 'a'.repeat(1000);
  const work = createWork({ maxSteps: 100_000, what: 'a test' });
  await expect(createPathPatterns(patterns, work).match(path)).rejects.toThrow(WorkLimitExceeded);
  const stop = new AbortController();
  const stopped = createWork({ maxSteps: Number.POSITIVE_INFINITY, what: 'a test', signal: stop.signal });
  const matched = createPathPatterns(patterns, stopped).match(path);
  setImmediate(() => stop.abort(new Error('it was stopped')));
  await expect(matched).rejects.toThrow('it was stopped');
});

test('names the pattern that it cannot read', () => {
  expect(() => createPathPatterns(['good', 'a['], plentyOfWork())).toThrow(/"a\[".*without its "\]"/);
  expect(() => createPathPatterns(['x'.repeat(5000)], plentyOfWork())).toThrow(/more than 4096 characters/);
});
