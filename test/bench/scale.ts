// What fleets of several sizes need when all nodes pull one new image at once: arithmetic from the committed figures, as docs/scale.md has it.
// `node test/bench/scale.ts` writes it there.
import { execFileSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { type Outcome, parseReport } from './outcome.ts';
import { replaceFigures } from './table.ts';

const FIGURES = fileURLToPath(new URL('../../docs/benchmarks.json', import.meta.url));
const PAGE = fileURLToPath(new URL('../../docs/scale.md', import.meta.url));

/** What is assumed, beside what is measured. */
const IMAGE_MIB = 500;
const WITHIN_S = 300;
/** Of a pull: the tag by HEAD, the index, the manifest of the platform, its config, and seven layers. */
const [MANIFESTS, BLOBS] = [3, 8];
/** 10 Gbit/s, of which nine tenths are content. */
const NETWORK_MIB = ((10e9 / 8) * 0.9) / 1024 ** 2;
const NODES = [10, 1_000, 10_000];

if (import.meta.main) await saveScale(parseReport(await readFile(FIGURES, 'utf8')).rows);

export async function saveScale(rows: readonly Outcome[]): Promise<void> {
  await writeFile(PAGE, replaceFigures(await readFile(PAGE, 'utf8'), formatScale(rows)));
  execFileSync('biome', ['format', '--write', PAGE], { stdio: 'ignore' });
}

/** A table in markdown. Throws where a row is missing that it follows from. */
export function formatScale(rows: readonly Outcome[]): string {
  const figure = (name: string) => {
    const row = rows.find(each => each.name === name);
    if (!row) throw new Error(`the figures have no row ${name}`);
    return row.veneerMedian;
  };
  const requestMs = figure('warm-manifest-log-metrics-processor') / 1000;
  const gibMs = figure('warm-blob-8-processor');
  const coreMib = (1024 / gibMs) * 1000;
  const replicaMib = Math.min(coreMib, NETWORK_MIB);

  const columns = NODES.map(nodes => {
    const [mib, requests] = [nodes * IMAGE_MIB, nodes * (MANIFESTS + BLOBS)];
    const processorS = (requests * requestMs + (mib / 1024) * gibMs) / 1000;
    return {
      nodes: nodes.toLocaleString('en'),
      bytes: formatMib(mib),
      rate: `${formatMib(mib / WITHIN_S)}/s`,
      requests: `${format(requests / WITHIN_S)} requests/s`,
      documents: `${((requests * requestMs) / 10 / WITHIN_S).toFixed(2)} %`,
      processors: format(processorS / WITHIN_S),
      replicas: `${Math.ceil(mib / WITHIN_S / replicaMib)}`,
      fastest: formatSeconds(mib / (2 * replicaMib)),
      upstream: formatMib(IMAGE_MIB),
    };
  });
  const row = (what: string, key: keyof (typeof columns)[number]) =>
    `| ${[what, ...columns.map(column => column[key])].join(' | ')} |`;
  return [
    row('nodes', 'nodes'),
    '| --- | ---: | ---: | ---: |',
    row('bytes to nodes', 'bytes'),
    row(`the same, within ${WITHIN_S / 60} minutes`, 'rate'),
    row('requests', 'requests'),
    row('one processor is busy with their heads', 'documents'),
    row('processors for all of it', 'processors'),
    row(`replicas for it, at ${formatMib(replicaMib)}/s each`, 'replicas'),
    row('how long it takes with two replicas', 'fastest'),
    row('bytes from the upstream, with a bucket for all', 'upstream'),
  ].join('\n');
}

function formatMib(mib: number): string {
  const units = ['MiB', 'GiB', 'TiB'];
  const power = Math.max(0, Math.min(units.length - 1, Math.floor(Math.log2(mib) / 10)));
  return `${format(mib / 1024 ** power)} ${units[power]}`;
}

function formatSeconds(seconds: number): string {
  return seconds < 120 ? `${format(seconds)} s` : `${format(seconds / 60)} min`;
}

function format(value: number): string {
  return value < 10 ? value.toFixed(1) : value.toFixed(0);
}
