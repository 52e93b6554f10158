// `veneer rules`: the rules that a running service has in force, and what they make of an image.
import { Command } from 'commander';
import { explain, print } from './output.ts';
import { plainText } from './plain-text.ts';
import { formatExplanation } from './rule-explanation-text.ts';
import { formatRules } from './rules-text.ts';
import { explainRules, listRules } from './service/rules.ts';
import { addServerOption, callService, type ServiceCommandDeps } from './service-command.ts';

interface ExplainOptions {
  readonly platform?: string;
  readonly caller?: string;
  readonly json?: boolean;
}

/** A pull of the image gets an error. */
const EXIT_NO_PULL = 2;

export function createRulesCommand(deps: ServiceCommandDeps): Command {
  const command = new Command('rules').description('what the rules of a running service make of images');
  addExplain(command, deps);
  addList(command, deps);
  return command;
}

function addExplain(command: Command, deps: ServiceCommandDeps): void {
  const explaining = command
    .command('explain')
    .description('says which rules are for an image, why, and what it becomes; fails where a pull would')
    .argument('<image>', 'such as docker.io/library/alpine:3')
    .option('--platform <platform>', 'of an index this image alone, such as linux/arm64')
    .option('--caller <name>', 'for whom; default: who asks')
    .option('--json', 'prints what the service says of it');
  addServerOption(explaining).action(async (image: string, options: ExplainOptions, self: Command) =>
    callService(self, deps, async ({ service }) => {
      const { json, platform, caller } = options;
      const explanation = await explainRules(service, { image, platform, caller });
      const lines = json ? [JSON.stringify(explanation, undefined, 2)] : formatExplanation(explanation);
      for (const line of lines) print(self, line);
      const { outcome, reason } = explanation;
      if (outcome === 'refused' || outcome === 'failed') {
        self.error(`error: a pull gets an error: ${plainText(reason)}`, { exitCode: EXIT_NO_PULL });
      }
    }),
  );
}

function addList(command: Command, deps: ServiceCommandDeps): void {
  const list = command
    .command('ls')
    .alias('list')
    .description('lists the rules in force, in their order')
    .option('--json', 'prints what the service says of them');
  addServerOption(list).action(async ({ json }: { readonly json?: boolean }, self: Command) =>
    callService(self, deps, async ({ service }) => {
      const found = await listRules(service);
      const lines = json ? [JSON.stringify(found, undefined, 2)] : formatRules(found);
      for (const line of lines) print(self, line);
      for (const fault of found.faults) explain(self, plainText(`what is written there now is not in force: ${fault}`));
    }),
  );
}
