// `veneer rules`: the active rules of a running service, and their effect on an image.
import { Command } from 'commander';
import type { z } from 'zod';
import { formatSize } from '../oci/wording.ts';
import {
  type AddedLayer,
  type Difference,
  type ExplainedImage,
  type Explanation,
  explanationSchema,
  type ListedRule,
  type RuleList,
  ruleListSchema,
} from '../rules/explanation.ts';
import { explain, formatColumns, plainText, print } from './output.ts';
import { parseAnswer } from './service/builds.ts';
import { type Hints, refusalOf, type Service, ServiceRefused, sendRequest } from './service/service.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

/** A pull of the image fails. */
const EXIT_NO_PULL = 2;

export function createRulesCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('rules').description('shows the rules of a running service');
  addExplain(command, deps);
  addList(command, deps);
  return command;
}

function addExplain(command: Command, deps: ServiceCommandDeps): void {
  const explaining = command
    .command('explain')
    .description('shows which rules match an image, why, and the result; fails where a pull would')
    .argument('<image>', 'such as docker.io/library/alpine:3')
    .option('--platform <platform>', 'only this platform, such as linux/arm64')
    .option('--caller <name>', 'the caller who pulls; default: yourself')
    .option('--json', 'prints the answer of the service as JSON');
  addServerOption(explaining).action(
    async (
      image: string,
      options: { readonly platform?: string; readonly caller?: string; readonly json?: boolean },
      self: Command,
    ) =>
      callService(self, deps, async ({ service }) => {
        const { json, platform, caller } = options;
        const explanation = await explainRules(service, { image, platform, caller });
        const lines = json ? [JSON.stringify(explanation, undefined, 2)] : formatExplanation(explanation);
        for (const line of lines) print(self, line);
        const { outcome, reason } = explanation;
        if (outcome === 'refused' || outcome === 'failed') {
          self.error(`error: a pull fails: ${plainText(reason)}`, { exitCode: EXIT_NO_PULL });
        }
      }),
  );
}

function addList(command: Command, deps: ServiceCommandDeps): void {
  const list = command
    .command('ls')
    .alias('list')
    .description('lists the active rules in order')
    .option('--json', 'prints the answer of the service as JSON');
  addServerOption(list).action(async ({ json }: { readonly json?: boolean }, self: Command) =>
    callService(self, deps, async ({ service }) => {
      const found = await listRules(service);
      const lines = json ? [JSON.stringify(found, undefined, 2)] : formatRules(found);
      for (const line of lines) print(self, line);
      for (const fault of found.faults) explain(self, plainText(`the rules on disk are not active: ${fault}`));
    }),
  );
}

const HEADINGS = ['RULE', 'IMAGES', 'NOT', 'PLATFORMS', 'CALLERS', 'CHANGES', 'LAYERS', 'PINNED'];

/** A heading and one line for each rule, in columns, and since when they are active. */
function formatRules({ rules, loadedAt }: RuleList): readonly string[] {
  const since = plainText(`active since ${loadedAt}`);
  if (rules.length === 0) return ['there are no rules', since];
  const rows = rules.map(rule => cellsOf(rule).map(plainText));
  return [...formatColumns(HEADINGS, rows), '', since];
}

function cellsOf({ name, match, layers, changes, pinned }: ListedRule): readonly string[] {
  const { image, not = [], platform = [], caller = [] } = match;
  const origins = layers.map(({ from, platforms }) => (platforms ? `${from} (${platforms.join()})` : from));
  return [name, ...[image, not, platform, caller, changes, origins].map(list => list.join(', ') || '-'), pinned];
}

interface ExplainQuery {
  readonly image: string;
  readonly platform?: string | undefined;
  readonly caller?: string | undefined;
}

const EXPLAIN_HINT = 'set VENEER_TOKEN to a token that may pull it; for --caller, to one made with --admin';
const LIST_HINT = 'set VENEER_TOKEN to a token made with --admin';

function explainRules(service: Service, { image, platform, caller }: ExplainQuery): Promise<Explanation> {
  const query = new URLSearchParams({ image, ...(platform && { platform }), ...(caller && { caller }) });
  return ask(service, explanationSchema, { path: `/v1/rules/explain?${query}`, hint: EXPLAIN_HINT });
}

function listRules(service: Service): Promise<RuleList> {
  return ask(service, ruleListSchema, { path: '/v1/rules', hint: LIST_HINT });
}

interface Asked {
  readonly path: string;
  /** A hint for a caller without the right. */
  readonly hint: string;
}

async function ask<T>(service: Service, schema: z.ZodType<T>, { path, hint }: Asked): Promise<T> {
  const response = await sendRequest(service, path);
  const hints: Hints = { 401: hint, 403: hint };
  if (!response.ok) throw await refusalOf(response, hints);
  const { host } = service.url;
  const text = await response.text().catch(cause => {
    throw new ServiceRefused(`${host} closed the connection`, { cause, isTransient: true });
  });
  return parseAnswer(schema, text, host);
}

// Formats a rules explanation for the terminal: the image and caller, the reasons, and the differences per platform in the style of `diff`.

const INDENT = '  ';

/** Without escape sequences, whatever the service sends. */
function formatExplanation(explanation: Explanation): readonly string[] {
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
