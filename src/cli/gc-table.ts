// What a collection did, as lines for people.
import { type GcReport, isNothing, type Tally } from '../hosted/gc/report.ts';
import { formatSize } from '../oci/size.ts';

const HEADINGS = ['REPOSITORY', 'TAGS', 'MANIFESTS', 'BLOBS', 'SIZE'] as const;

/** A table of the repositories that lose something, if there are any, and the sums. */
export function formatReport(report: GcReport): readonly string[] {
  const { dryRun, repositories, removed, kept, orphans, freedBytes } = report;
  const rows = repositories.map(({ repository, removed: gone }) => [repository, ...cellsOf(gone)]);
  const found = orphans.blobs > 0 ? [`left by a crash: ${formatContent(orphans)}`] : [];
  return [
    ...(rows.length > 0 ? formatColumns([HEADINGS, ...rows]) : []),
    `${dryRun ? 'would remove' : 'removed'}: ${isNothing(removed) ? 'nothing' : formatTally(removed)}`,
    ...found,
    `${dryRun ? 'would free' : 'freed'}: ${formatSize(freedBytes)} on disk`,
    `stays: ${formatTally(kept)}`,
  ];
}

function cellsOf({ tags, manifests, blobs, bytes }: Tally): readonly string[] {
  return [tags, manifests, blobs].map(String).concat(formatSize(bytes));
}

function formatTally({ tags, manifests, blobs, bytes }: Tally): string {
  const content = `${count(manifests, 'manifest')}, ${count(blobs, 'blob')}; ${formatSize(bytes)}`;
  return `${count(tags, 'tag')}, ${content}`;
}

function formatContent({ blobs, bytes }: GcReport['orphans']): string {
  return `${count(blobs, 'file')}; ${formatSize(bytes)}`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

/** The first column to the left, the others to the right. */
function formatColumns(table: readonly (readonly string[])[]): readonly string[] {
  const widths = HEADINGS.map((_, column) => Math.max(...table.map(row => row[column]?.length ?? 0)));
  const pad = (cell: string, column: number) =>
    column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0);
  return table.map(row => row.map(pad).join('  '));
}
