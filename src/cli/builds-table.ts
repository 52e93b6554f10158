// Builds as lines for people.
import { formatColumns } from './columns.ts';
import { plainText } from './plain-text.ts';
import type { Build } from './service/builds.ts';

/** A failure may quote lines of a step: the whole reason is in the log and in `--json`. */
const MAX_REASON_LENGTH = 120;

/** A line of headings, and one for each build, in columns; of a build that did not fail the last is empty. */
export function formatBuilds(builds: readonly Build[]): readonly string[] {
  const rows = builds.map(({ buildId, status, creationTime, duration, platforms, targetImage, reason }) => [
    buildId,
    status,
    creationTime ?? '-',
    duration === undefined ? '-' : `${Math.round(duration)} s`,
    platforms.join(',') || '-',
    targetImage ?? '-',
    status === 'failed' ? summarize(reason ?? '-') : '',
  ]);
  return formatColumns(
    ['BUILD', 'STATUS', 'CREATED', 'TOOK', 'PLATFORMS', 'IMAGE', 'REASON'],
    rows.map(row => row.map(plainText)),
  );
}

function summarize(reason: string): string {
  const line = plainText(reason).replaceAll(/\s+/g, ' ').trim();
  const characters = [...line];
  return characters.length > MAX_REASON_LENGTH ? `${characters.slice(0, MAX_REASON_LENGTH - 1).join('')}…` : line;
}
