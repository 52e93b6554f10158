// `npm run bench`: Veneer beside other registries and proxies, in one run on one machine. docs/benchmarks.md says what the rows mean.
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Benchmark, Environment } from './benchmark.ts';
import { BENCHMARKS } from './benchmarks.ts';
import type { Figures } from './comparison.ts';
import { prepareEnvironments } from './environment.ts';
import { drawGraph } from './graph.ts';
import { type Options, parseOptions, rowsOf, selectBenchmarks, USAGE } from './options.ts';
import { describeOutcome, findSlower, mergeRows, type Outcome, parseReport, type Report } from './outcome.ts';
import { findProgram } from './processes.ts';
import { saveScale } from './scale.ts';
import { formatTable, replaceFigures } from './table.ts';

const COMMITTED = fileURLToPath(new URL('../../docs/benchmarks.json', import.meta.url));
const GRAPH = fileURLToPath(new URL('../../docs/benchmarks.svg', import.meta.url));
const PAGE = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url));

try {
  process.exitCode = await main(parseOptions(process.argv.slice(2)));
} catch (error) {
  tell(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}

/** Gives the exit code. */
async function main(options: Options): Promise<number> {
  if (options.isHelp) return print(USAGE);
  const selected = selectBenchmarks(BENCHMARKS, options.rows);
  if (options.isList) return print(rowsOf(selected).map(listRow).join('\n'));
  for (const program of ['registry', 'regctl', 'wrk', 'curl', 'nginx']) findProgram(program);
  const { rows, failed } = await measureAll(selected, options.pairs);
  const report: Report = { machine: describeMachine(), rows: [...rows] };
  print(options.isJson ? JSON.stringify(report, null, 2) : formatTable(rows));
  const slower = options.isCheck ? findSlower(rows, (await readCommitted()).rows) : [];
  for (const line of slower) tell(`slower than committed: ${line}`);
  if (options.isSave) await save(report);
  for (const line of failed) tell(`failed: ${line}`);
  return slower.length + failed.length > 0 ? 1 : 0;
}

interface Measured {
  readonly rows: readonly Outcome[];
  /** A line for each benchmark that could not be measured, and does not keep others from it. */
  readonly failed: readonly string[];
}

async function measureAll(benchmarks: readonly Benchmark[], pairs: number): Promise<Measured> {
  await using stack = new AsyncDisposableStack();
  const createEnvironment = await prepareEnvironments(stack);
  const rows: Outcome[] = [];
  const failed: string[] = [];
  for (const [index, benchmark] of benchmarks.entries()) {
    const names = benchmark.rows.map(({ name }) => name).join(', ');
    tell(`${index + 1} of ${benchmarks.length}: ${names}`);
    try {
      await using own = new AsyncDisposableStack();
      rows.push(
        ...(await measure(benchmark, await createEnvironment(own), Math.min(pairs, benchmark.maxPairs ?? pairs))),
      );
    } catch (error) {
      failed.push(`${names}: ${error}`);
    }
  }
  return { rows, failed };
}

async function measure(
  { rows, prepare }: Benchmark,
  environment: Environment,
  count: number,
): Promise<readonly Outcome[]> {
  const takePair = await prepare(environment);
  const load = loadavg()[0] ?? 0;
  const pairs: (readonly Figures[])[] = [];
  for (let pair = 0; pair < count; pair += 1) {
    const figures = await takePair(pair);
    pairs.push(figures);
    const ratios = figures.map(({ veneer, peer }) => (veneer / peer).toFixed(2));
    tell(`  pair ${pair + 1} of ${count}: ${ratios.join(', ')}`);
  }
  const circumstances = { load, at: new Date() };
  return rows.map((row, index) =>
    describeOutcome(
      row,
      pairs.flatMap(figures => figures[index] ?? []),
      circumstances,
    ),
  );
}

/** Into the committed figures, where other rows stay as they are, and from all of them into the page and the graph. */
async function save({ machine, rows }: Report): Promise<void> {
  const names = rowsOf(BENCHMARKS).map(({ name }) => name);
  const merged = mergeRows((await readCommitted()).rows, rows, names);
  await writeFile(COMMITTED, `${JSON.stringify({ machine, rows: merged }, null, 2)}\n`);
  await writeFile(GRAPH, drawGraph(merged));
  await writeFile(PAGE, replaceFigures(await readFile(PAGE, 'utf8'), formatTable(merged)));
  execFileSync('biome', ['format', '--write', COMMITTED, PAGE], { stdio: 'ignore' });
  await saveScale(merged);
  tell(`written: ${[COMMITTED, GRAPH, PAGE].join(', ')}`);
}

async function readCommitted(): Promise<Report> {
  return parseReport(await readFile(COMMITTED, 'utf8'));
}

function describeMachine(): Report['machine'] {
  return { processor: cpus()[0]?.model ?? 'unknown', cores: availableParallelism(), node: process.version };
}

function listRow({ name, what, unit, better, peer = 'distribution' }: ReturnType<typeof rowsOf>[number]): string {
  return `${name.padEnd(34)} ${what} (${unit}, ${better} is better, beside ${peer})`;
}

function print(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

/** Progress goes to where it is no part of the outcome. */
function tell(line: string): void {
  process.stderr.write(`${new Date().toTimeString().slice(0, 8)} ${line}\n`);
}
