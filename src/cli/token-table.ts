// Access tokens as lines for people.
import type { AccessToken } from '../access/access-token.ts';
import type { Permission } from '../access/right.ts';
import { formatColumns } from './columns.ts';

const HEADINGS = ['ID', 'EXPIRES', 'NAME', 'RIGHTS'] as const;

/** A line of headings, and one for each token, in columns. */
export function formatTokens(tokens: readonly AccessToken[]): readonly string[] {
  const rows = tokens.map(({ id, expiresAt, name, permissions }) => [
    id,
    expiresAt,
    name,
    permissions.map(formatPermission).join('; '),
  ]);
  return formatColumns(HEADINGS, rows);
}

function formatPermission({ repositories, allow }: Permission): string {
  return [allow.join(','), ...repositories].join(' ');
}
