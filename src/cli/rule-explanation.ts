// Formats a rules explanation for the terminal: the image and caller, the reasons, and the differences per platform in the style of `diff`.
import { formatSize } from '../oci/wording.ts';
import type { AddedLayer, Difference, ExplainedImage, Explanation } from '../rules/explanation.ts';
import { formatColumns, plainText } from './output.ts';

const INDENT = '  ';

/** Without escape sequences, whatever the service sends. */
export function formatExplanation(explanation: Explanation): readonly string[] {
  const { image, caller, sourceDigest, digest, outcome, reason, rules, platforms } = explanation;
  return [
    ...formatPairs([
      ['image', image],
      ...(caller === undefined ? [] : [['caller', caller] as const]),
      ['source', sourceDigest],
      ['becomes', digest ?? 'nothing: a pull gets an error'],
      [outcome, reason],
    ]),
    '',
    ...(rules.length === 0 ? ['there are no rules'] : formatVerdicts(rules)),
    ...platforms.flatMap(platform => ['', ...formatImage(platform)]),
  ];
}

function formatPairs(pairs: readonly (readonly [name: string, value: string])[]): readonly string[] {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => plainText(`${name.padEnd(width)}  ${value}`));
}

function formatVerdicts(rules: Explanation['rules']): readonly string[] {
  const rows = rules.map(({ name, applies, platforms = [], reason }) => [
    ...[name, applies ? 'yes' : 'no', platforms.join(', ') || 'all', reason],
  ]);
  return formatTable(['RULE', 'APPLIES', 'PLATFORMS', 'WHY'], rows);
}

function formatImage({
  platform,
  rules,
  sourceDigest,
  digest,
  differences,
  layers,
  warnings = [],
}: ExplainedImage): readonly string[] {
  const names = rules.join(', ') || 'no rule';
  // An image config may lack its platform.
  const label = platform || 'no platform';
  const warned = warnings.map(warning => plainText(`warning: ${warning}`));
  if (sourceDigest === digest) {
    return [
      plainText(`${label}: unchanged, ${names}`),
      ...[plainText(digest), ...warned].map(line => `${INDENT}${line}`),
    ];
  }
  const lines = [
    ...warned,
    ...[`- ${sourceDigest}`, `+ ${digest}`].map(plainText),
    ...formatLayers(layers),
    ...formatDifferences(differences),
  ];
  return [plainText(`${label}: changed, ${names}`), ...lines.map(line => `${INDENT}${line}`)];
}

function formatLayers(layers: readonly AddedLayer[]): readonly string[] {
  if (layers.length === 0) return [];
  const rows = layers.map(({ digest, size, rule = '-', from = '-' }) => [`+ ${digest}`, formatSize(size), rule, from]);
  return [...formatTable(['LAYERS', 'SIZE', 'RULE', 'FROM'], rows), ...layers.flatMap(formatMoved)];
}

/** Entries that were moved to follow the links of the image. */
function formatMoved({ moved }: AddedLayer): readonly string[] {
  if (!moved) return [];
  const { given, entries, count } = moved;
  const more = count - entries.length;
  return [
    plainText(`MOVED by links of the image, of ${given}`),
    ...entries.map(({ from, to }) => plainText(`${from} → ${to}`)),
    ...(more > 0 ? [`and ${more} more`] : []),
  ];
}

/** Each field once, with the old and the new value. */
function formatDifferences(differences: readonly Difference[]): readonly string[] {
  const fields = [...new Set(differences.map(({ field }) => field))];
  return fields.flatMap(field => [
    field.toUpperCase(),
    ...differences.filter(difference => difference.field === field).flatMap(formatDifference),
  ]);
}

function formatDifference({ field, key, before, after }: Difference): readonly string[] {
  const changes = [
    ['-', before],
    ['+', after],
  ] as const;
  const format = (value: string | readonly string[]) => (typeof value === 'string' ? value : JSON.stringify(value));
  // A port is present or absent, without a value.
  const name = key === undefined ? '' : field === 'exposedPorts' ? key : `${key}=`;
  return changes.flatMap(([sign, value]) => (value === undefined ? [] : plainText(`${sign} ${name}${format(value)}`)));
}

function formatTable(headings: readonly string[], rows: readonly (readonly string[])[]): readonly string[] {
  return formatColumns(
    headings,
    rows.map(row => row.map(plainText)),
  );
}
