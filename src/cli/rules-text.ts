// The rules in force as lines for people.
import type { RuleList, ToldRule } from '../rules/explanation.ts';
import { formatColumns } from './columns.ts';
import { plainText } from './plain-text.ts';

const HEADINGS = ['RULE', 'IMAGES', 'NOT', 'PLATFORMS', 'CALLERS', 'CHANGES', 'LAYERS', 'PINNED'];

/** A line of headings and one for each rule, in columns, and since when they are in force. */
export function formatRules({ rules, loadedAt }: RuleList): readonly string[] {
  const since = plainText(`in force since ${loadedAt}`);
  if (rules.length === 0) return ['there are no rules', since];
  const rows = rules.map(rule => cellsOf(rule).map(plainText));
  return [...formatColumns(HEADINGS, rows), '', since];
}

function cellsOf({ name, match, layers, changes, pinned }: ToldRule): readonly string[] {
  const { image, not = [], platform = [], caller = [] } = match;
  const places = layers.map(({ from, platforms }) => (platforms ? `${from} (${platforms.join()})` : from));
  return [name, ...[image, not, platform, caller, changes, places].map(list => list.join(', ') || '-'), pinned];
}
