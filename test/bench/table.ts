// The outcome as a markdown table.
import type { Outcome } from './outcome.ts';

export function formatTable(rows: readonly Outcome[]): string {
  const lines = rows.map(({ what, unit, better, peer, veneerMedian, peerMedian, ...row }) => {
    const range = row.pairs > 1 ? ` (${row.low.toFixed(2)} to ${row.high.toFixed(2)})` : '';
    const figures = [`${format(veneerMedian)} ${unit}`, `${format(peerMedian)} ${unit}`];
    return `| ${[what, ...figures, peer, better, `${row.ratio.toFixed(2)}${range}`].join(' | ')} |`;
  });
  return [
    '| what | Veneer | peer | peer is | better | ratio (Veneer / peer) |',
    '| --- | ---: | ---: | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

const FIGURES = /(?<=<!-- figures -->\n).*(?=\n<!-- end of figures -->)/s;

/** The page with this table between its comments. Throws where it has none. */
export function replaceFigures(page: string, table: string): string {
  if (!FIGURES.test(page)) throw new Error('the page has no place for its figures');
  return page.replace(FIGURES, () => `\n${table}\n`);
}

function format(figure: number): string {
  return figure.toFixed(figure < 10 && !Number.isInteger(figure) ? 1 : 0);
}
