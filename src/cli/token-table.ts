// Access tokens as lines for people.
import type { AccessToken } from '../access/access-token.ts';
import type { Permission } from '../access/right.ts';

const HEADINGS = ['ID', 'EXPIRES', 'NAME', 'RIGHTS'] as const;

/** A line of headings, and one for each token, in columns. */
export function formatTokens(tokens: readonly AccessToken[]): readonly string[] {
  const rows = tokens.map(({ id, expiresAt, name, permissions }) => [
    id,
    expiresAt,
    name,
    permissions.map(formatPermission).join('; '),
  ]);
  const table = [HEADINGS, ...rows];
  const widths = HEADINGS.map((_, column) => Math.max(...table.map(row => row[column]?.length ?? 0)));
  return table.map(row =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}

function formatPermission({ repositories, allow }: Permission): string {
  return `${allow.join(',')} ${repositories.join(' ')}`;
}
