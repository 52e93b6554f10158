// Builds as lines for people.
import { formatColumns } from './columns.ts';
import { plainText } from './plain-text.ts';
import type { Build } from './service/builds.ts';

/** A line of headings, and one for each build, in columns. */
export function formatBuilds(builds: readonly Build[]): readonly string[] {
  const rows = builds.map(({ buildId, status, creationTime, duration, platforms, targetImage }) => [
    buildId,
    status,
    creationTime ?? '-',
    duration === undefined ? '-' : `${Math.round(duration)} s`,
    platforms.join(',') || '-',
    targetImage ?? '-',
  ]);
  return formatColumns(
    ['BUILD', 'STATUS', 'CREATED', 'TOOK', 'PLATFORMS', 'IMAGE'],
    rows.map(row => row.map(plainText)),
  );
}
