// Output of commands, as plain text and tables: results go to standard output, explanations to standard error.
import { stripVTControlCharacters } from 'node:util';
import type { Command } from 'commander';

export function print(self: Command, line: string): void {
  self.configureOutput().writeOut?.(`${line}\n`);
}

/** For scripts. */
export function printJson(self: Command, value: unknown): void {
  print(self, JSON.stringify(value, undefined, 2));
}

export function explain(self: Command, line: string): void {
  self.configureOutput().writeErr?.(`${line}\n`);
}

/**
 * Foreign text as one line without escape sequences, so that it cannot move a terminal's cursor, set its title or forge a line. A tab
 * stays, any other control character becomes a space.
 */
export function plainText(text: string): string {
  return stripVTControlCharacters(text).replace(/[^\P{Cc}\t]/gu, ' ');
}

/** A table whose columns are as wide as their widest cell, two spaces apart; a line for each row. Every row has a cell for each heading. */
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
