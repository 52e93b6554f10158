// `veneer rules`: the active rules of a running service, and their effect on an image.
import { Command } from 'commander';
import type { z } from 'zod';
import {
  type Explanation,
  explanationSchema,
  type ListedRule,
  type RuleList,
  ruleListSchema,
} from '../rules/explanation.ts';
import { explain, formatColumns, plainText, print } from './output.ts';
import { formatExplanation } from './rule-explanation.ts';
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
