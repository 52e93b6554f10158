// docs/faults.md names the test that shows each row: the file is there, and has a test of that name. And no fault test is left unnamed.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const PAGE = readFileSync(join(import.meta.dirname, '../../docs/faults.md'), 'utf8');

/** Cells of all rows below the heads of tables. */
const rows = PAGE.split('\n')
  .filter(line => line.startsWith('| '))
  .map(line =>
    line
      .slice(2, -2)
      .split(' | ')
      .map(cell => cell.trim()),
  )
  .filter(([first = '']) => !/^(fault|runtime|-+)$/.test(first));

/** Of the cell that has `file`: a part of a test's name …; of another one … */
function findReferences(cells: readonly string[]) {
  const cell = cells.find(text => /^`[a-z]+(?:\/[\w-]+)+`: /.test(text)) ?? '';
  return [...cell.matchAll(/`([a-z]+(?:\/[\w-]+)+)`: ([^`]+)/g)].flatMap(([, file = '', names = '']) =>
    names
      .split(';')
      .map(name => name.replace('…', '').trim())
      .filter(name => name !== '')
      .map(name => ({ file, name })),
  );
}

const references = rows.flatMap(findReferences);

test.each(rows)('the row of %s names a test, and has no empty cell', (...cells) => {
  expect(findReferences(cells).length).toBeGreaterThan(0);
  expect(cells).not.toContain('');
});

test.each(references)('$file has a test "$name"', ({ file, name }) => {
  const path = join(import.meta.dirname, '..', file);
  // Cases that one suite has several files of are in a folder beside it.
  const text = readFileSync(existsSync(`${path}.test.ts`) ? `${path}.test.ts` : `${path}-cases.ts`, 'utf8');
  expect(text.includes(name), `${file} has it`).toBe(true);
});

describe('the suite', () => {
  const files = readdirSync(join(import.meta.dirname, '../faults')).filter(name => name.endsWith('.test.ts'));

  test.each(files)('%s is on the page', name => {
    expect(references.map(({ file }) => file)).toContain(`faults/${name.replace('.test.ts', '')}`);
  });
});
