// The outcome as a markdown table.

export interface Row {
  readonly what: string;
  readonly unit: string;
  readonly veneer: number;
  readonly peer: number;
}

export function formatTable(rows: readonly Row[]): string {
  const lines = rows.map(({ what, unit, veneer, peer }) => {
    const cells = [what, `${format(veneer)} ${unit}`, `${format(peer)} ${unit}`, (veneer / peer).toFixed(2)];
    return `| ${cells.join(' | ')} |`;
  });
  return ['| what | Veneer | peer | ratio (Veneer / peer) |', '| --- | ---: | ---: | ---: |', ...lines].join('\n');
}

function format(figure: number): string {
  return figure.toFixed(figure < 10 && !Number.isInteger(figure) ? 1 : 0);
}
