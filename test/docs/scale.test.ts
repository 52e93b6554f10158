// docs/scale.md follows from the committed figures.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseReport } from '../bench/outcome.ts';
import { formatScale } from '../bench/scale.ts';

test('its table is that of docs/benchmarks.json: `node test/bench/scale.ts` writes it', () => {
  const { rows } = parseReport(readFileSync('docs/benchmarks.json', 'utf8'));
  const [page = ''] =
    /(?<=<!-- figures -->\n).*(?=\n<!-- end of figures -->)/s.exec(readFileSync('docs/scale.md', 'utf8')) ?? [];
  expect(cellsOf(page)).toEqual(cellsOf(formatScale(rows)));
});

/** Of each row but the line below the heads, without the spaces that a formatter aligns them with. */
function cellsOf(table: string): readonly (readonly string[])[] {
  const lines = table.split('\n').filter(line => /^\|(?! *-)/.test(line));
  return lines.map(line => line.split('|').map(cell => cell.trim()));
}
