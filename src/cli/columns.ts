// Tables for people: columns as wide as what is in them.

/** Cells to the left, two spaces apart; a line for each row. Every row has a cell for each heading. */
export function formatColumns(headings: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  const table = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...table.map(row => row[column]?.length ?? 0)));
  return table.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
