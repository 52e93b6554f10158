// docs/resilience.md names the test that shows each row: the file is there, and has a test of that name.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const PAGE = readFileSync(join(import.meta.dirname, '../../docs/resilience.md'), 'utf8');

/** `file`: the beginning of a test's name … */
const REFERENCE = /`((?:app|upstream)\/[\w-]+)`(?:: ([^;|…]+))?/g;

const references = [...PAGE.matchAll(REFERENCE)].map(([, file = '', name = '']) => ({ file, name: name.trim() }));

test('the page refers to tests', () => {
  expect(references.length).toBeGreaterThan(15);
});

test.each(references.filter(({ name }) => name !== ''))('$file has a test "$name"', ({ file, name }) => {
  const text = readFileSync(join(import.meta.dirname, `../${file}.test.ts`), 'utf8');
  for (const part of name.split(', ')) expect(text).toContain(part.replace(/[.)]+$/, ''));
});
