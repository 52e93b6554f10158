// The figures of src/: of files that are written here, and of the pulls of a real app.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { measure } from './figures.ts';
import { countHops } from './hops.ts';
import { readSources } from './sources.ts';

const FILES = {
  'a/one.ts':
    "import type { Two } from './two.ts';\nimport {\n  type Three,\n  three as other,\n} from '../b/three.ts';\n",
  'a/two.ts':
    "export interface Two {}\nexport interface TwoOptions {}\nconst { four } = await import('../b/four.ts');\n",
  'b/three.ts': "export type { Three } from './four.ts';\nexport const three = 3;\nexport const tested = 4;\n",
  'b/four.ts': "import { three } from './three.ts';\nexport interface Three {}\nexport async function four() {}\n",
  'b/four.test.ts': "import { tested } from './three.ts';\nimport { test } from 'vitest';\n",
};

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-shape-'));
  for (const [name, text] of Object.entries(FILES)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
});

afterEach(() => rm(folder, { recursive: true }));

function measureFolder() {
  const isTest = (path: string) => path.endsWith('.test.ts');
  const all = readSources(join(folder, '**/*.ts'));
  const figures = measure(
    all.filter(({ path }) => !isTest(path)),
    all.filter(({ path }) => isTest(path)),
  );
  return JSON.parse(JSON.stringify(figures).replaceAll(`${folder}/`, ''));
}

test('exports are sorted by who imports them', () => {
  expect(measureFolder().exports).toEqual({
    all: 7,
    forTests: ['b/three.ts: tested'],
    unused: ['a/two.ts: TwoOptions'],
  });
});

test('cycles are found, and files that one file of their folder alone imports', () => {
  const { cycles, singleUse, bundles } = measureFolder();
  expect(cycles).toEqual([['b/four.ts', 'b/three.ts']]);
  expect(singleUse.map(({ path }: { path: string }) => path)).toEqual(['a/two.ts']);
  expect(bundles).toEqual({ deps: 0, options: 1 });
});

test('a warm pull runs through fewer files than a cold one, and a rule takes more than none', async () => {
  const hops = await countHops();
  const counts = Object.fromEntries(hops.map(({ pull, files }) => [pull, files.length]));
  expect(counts['warm, through a rule']).toBeLessThan(counts['cold, through a rule'] ?? 0);
  expect(counts['warm, without a rule']).toBeLessThan(counts['warm, through a rule'] ?? 0);
  expect(hops.find(({ pull }) => pull === 'warm, through a rule')?.files).toContain('src/oci/reference.ts');
});
