// What is said of the cache, as lines for people.
import type { CacheLine, StatLine, Tally } from '../cache/admin/lines.ts';
import { formatSize } from '../oci/size.ts';
import { formatColumns } from './columns.ts';

/** The answer without its progress: a table of what it lists, and what else it says. */
export function formatAnswer(lines: readonly CacheLine[]): readonly string[] {
  const repositories = lines.flatMap(line => (line.kind === 'repository' ? [line] : []));
  const contents = lines.flatMap(line => (line.kind === 'content' ? [line] : []));
  return [
    ...formatTable(
      ['REPOSITORY', 'MANIFESTS', 'BLOBS', 'SIZE', 'LAST USE'],
      repositories.map(({ repository, manifests, blobs, bytes, usedAt = '' }) => [
        ...[repository, `${manifests}`, `${blobs}`, formatSize(bytes), formatTime(usedAt)],
      ]),
    ),
    ...formatTable(
      ['DIGEST', 'SIZE', 'LAST USE', 'TYPE'],
      contents.map(({ digest, size, usedAt, contentType = 'blob' }) => [
        ...[digest, formatSize(size), formatTime(usedAt), contentType],
      ]),
    ),
    ...lines.flatMap(formatOther),
  ];
}

function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  return rows.length > 0 ? formatColumns(headings, rows) : [];
}

function formatOther(line: CacheLine): readonly string[] {
  switch (line.kind) {
    case 'stat':
      return formatStat(line);
    case 'damaged':
      return [`damaged (${line.of}): ${line.digest}, ${formatSize(line.size)}: ${line.remedy}`];
    case 'verified':
      return [`verified: ${formatTally(line.seen)}`, `damaged: ${formatTally(line.damaged)}`];
    case 'pruned':
      return [
        `${line.dryRun ? 'would remove' : 'removed'}: ${formatTally(line.removed)}`,
        `${line.dryRun ? 'would stay' : 'stays'}: ${formatTally(line.left)}`,
      ];
    default:
      return [];
  }
}

function formatStat({ bytes, count, isCounted, highBytes, lowBytes, maxAgeMs, pin, hits, misses }: StatLine) {
  const limit =
    highBytes === undefined ? 'none' : `above ${formatSize(highBytes)}, down to ${formatSize(lowBytes ?? 0)}`;
  const asked = (hits ?? 0) + (misses ?? 0);
  return [
    `kept: ${formatTally({ count, bytes })}${isCounted ? '' : ', and what is not counted yet'}`,
    `content goes: ${limit}`,
    `unused content goes after: ${maxAgeMs === undefined ? 'never' : `${Number((maxAgeMs / 3_600_000).toFixed(1))} h`}`,
    ...(pin.length > 0 ? [`pinned: ${pin.join(', ')}`] : []),
    ...(asked > 0 ? [`hits since the start: ${hits} of ${asked} (${Math.round(((hits ?? 0) / asked) * 100)} %)`] : []),
  ];
}

export function formatTally({ count, bytes }: Tally): string {
  return `${count} ${count === 1 ? 'file' : 'files'}, ${formatSize(bytes)}`;
}

/** To the second, in UTC. */
function formatTime(time: string): string {
  return time.replace(/\.\d+Z$/, 'Z');
}
