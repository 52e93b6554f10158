// `npm run shape`: figures of src/, beside what we aim at. `--list` names what is counted; `--hops` counts the files that a pull runs through.
import { type Figures, measure } from './figures.ts';
import { countHops } from './hops.ts';
import { readSources } from './sources.ts';

const isListed = process.argv.includes('--list');
const print = (text: string) => process.stdout.write(`${text}\n`);

const figures = measure(readSources('src/**/*.ts'), readSources('test/**/*.ts'));
printFigures(figures);
if (isListed) printLists(figures);
if (process.argv.includes('--hops')) await printHops();

function printFigures({ exports, bundles, ...figures }: Figures): void {
  const rows: readonly (readonly [name: string, value: string | number, aim?: string])[] = [
    ['files', figures.files, 'at most 443'],
    ['lines', figures.lines],
    ['median lines of a file', figures.median, '80 to 140'],
    ['95 of 100 files have fewer than', figures.p95 + 1, '300'],
    ['largest', `${figures.largest?.lines} ${figures.largest?.path}`],
    ['below 40 lines', `${figures.smallShare.toFixed(1)} %`, 'under 12 %'],
    ['below 100 lines, for one file of their folder', figures.singleUse.length],
    ['exports', exports.all],
    ['exports that tests alone import', exports.forTests.length],
    ['exports that nobody imports', exports.unused.length, '0'],
    ['…Deps, …Options', `${bundles.deps}, ${bundles.options}`],
    ['cycles, types included', figures.cycles.length, '0'],
  ];
  for (const [name, value, aim] of rows)
    print(`${name.padEnd(48)}${value}${aim === undefined ? '' : `  (aim: ${aim})`}`);
  print('\nroom         files   lines');
  for (const { name, files, lines } of figures.rooms)
    print(`${name.padEnd(12)}${String(files).padStart(6)}${String(lines).padStart(8)}`);
}

function printLists({ singleUse, exports, cycles }: Figures): void {
  const lists = {
    'below 100 lines, for one file of their folder': singleUse.map(({ path, lines }) => `${lines} ${path}`),
    'exports that tests alone import': exports.forTests,
    'exports that nobody imports': exports.unused,
    cycles: cycles.map(files => files.join(' ')),
  };
  for (const [name, items] of Object.entries(lists)) print([`\n${name}:`, ...items].join('\n  '));
}

async function printHops(): Promise<void> {
  print('\npull of a manifest by tag      files  record reads');
  for (const { pull, files, recordReads } of await countHops()) {
    print(`${pull.padEnd(30)}${String(files.length).padStart(6)}${String(recordReads).padStart(14)}`);
    if (isListed) print(files.map(path => `  ${path}`).join('\n'));
  }
}
