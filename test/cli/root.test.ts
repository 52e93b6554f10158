// All commands together: what their help shows can be typed, and what is misspelt is named with what was probably meant.
import { type Command, CommanderError } from 'commander';
import { expect, test } from 'vitest';
import { EXAMPLES, findWords } from '../../src/cli/examples.ts';
import { createRootCommand } from '../../src/cli/root.ts';
import { createTerminal } from './terminal.ts';

/** Commands that note what was parsed, and do nothing. */
function createInertRoot() {
  const ran: string[] = [];
  const written: string[] = [];
  const refuse = () => {
    throw new Error('nothing may be asked before a command runs');
  };
  const root = createRootCommand({
    ...{ version: '1.2.3', isTerminal: false, stdin: process.stdin, terminal: createTerminal() },
    ...{
      findService: refuse,
      listenForInterrupt: refuse,
      findDataDir: refuse,
      findRecords: refuse,
      findTarget: refuse,
    },
    ...{
      findGcTarget: refuse,
      findMigrationTarget: refuse,
      findRepairTarget: refuse,
      findMirror: refuse,
      findConfigSources: refuse,
      findStartFaults: refuse,
      probeUpstreams: refuse,
      probeBuilders: refuse,
    },
    serve: async () => void ran.push('veneer'),
  });
  for (const command of allOf(root)) {
    command.exitOverride().configureOutput({ writeErr: text => void written.push(text) });
    if (command !== root && command.commands.length === 0) command.action(() => void ran.push(findWords(command)));
  }
  const run = (line: string) => root.parseAsync(splitWords(line).slice(1), { from: 'user' });
  return { root, run, ran, written };
}

function allOf(command: Command): readonly Command[] {
  return [command, ...command.commands.flatMap(allOf)];
}

/** As a shell does it, for what examples have of it. */
function splitWords(line: string): readonly string[] {
  // Without what the shell does around it: a pipe, a file, a substitution.
  const [typed = ''] = /veneer[^<>|)]*/.exec(line) ?? [];
  return [...typed.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(
    ([, double, single, plain = '']) => double ?? single ?? plain,
  );
}

const lines = Object.entries(EXAMPLES).flatMap(([words, examples]) =>
  Object.keys(examples).map(line => ({ words, line })),
);

test.each(lines)('$line, an example of $words, is understood', async ({ words, line }) => {
  const { root, run, ran } = createInertRoot();
  await run(line);
  expect(ran).toEqual([expect.stringMatching(new RegExp(`^${words}`))]);
  const command = allOf(root).find(each => findWords(each) === words);
  const help: string[] = [];
  command?.configureOutput({ writeOut: text => void help.push(text) }).outputHelp();
  expect(help.join('')).toContain(`  $ ${line}\n`);
});

test.each([
  ['veneer tokn', "unknown command 'tokn'\n(Did you mean token?)\n"],
  ['veneer tokn create --pull x', "unknown command 'tokn'\n(Did you mean token?)\n"],
  ['veneer something', "unknown command 'something'\n"],
  ['veneer --lisen x', "unknown option '--lisen'\n(Did you mean --listen?)\n"],
  ['veneer token crate', "unknown command 'crate'\n(Did you mean create?)\n"],
  ['veneer build . --plattform x', "unknown option '--plattform'\n(Did you mean --platform?)\n"],
])('%s is refused with what was probably meant', async (line, message) => {
  const { run, ran, written } = createInertRoot();
  const error = await run(line).catch(error => error);
  expect(error).toBeInstanceOf(CommanderError);
  expect([error.exitCode, ran]).toEqual([1, []]);
  expect(written.join('')).toContain(message);
});

/** They print a script, a page, a schema, or nothing but that it is done. */
const WITHOUT_JSON = [
  ...['veneer config schema', 'veneer completion', 'veneer man'],
  ...['veneer token revoke', 'veneer registries set', 'veneer registries rm'],
];

test('every command that prints data has --json', () => {
  const { root } = createInertRoot();
  const leaves = allOf(root).filter(command => command !== root && command.commands.length === 0);
  const without = leaves.filter(({ options }) => !options.some(({ long }) => long === '--json'));
  expect(without.map(findWords).sort()).toEqual([...WITHOUT_JSON].sort());
});

test('the help lists every command in a group', () => {
  const { root } = createInertRoot();
  expect(root.helpInformation()).not.toMatch(/^Commands:/m);
});
