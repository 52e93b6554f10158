// docs/architecture.md names files and functions that are there.
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';

const PAGE = readFileSync('docs/architecture.md', 'utf8');
const [, WALK = ''] = /## Where the bytes of a tag come from\n([\s\S]*?)\n## /.exec(PAGE) ?? [];

test('every file that is named by its path is there', () => {
  const paths = [...PAGE.matchAll(/`((?:[\w-]+\/)+[\w-]+\.ts)`/g)].map(([, path = '']) => path);
  const isThere = (path: string) => existsSync(path) || existsSync(`src/${path}`);
  expect(paths.length).toBeGreaterThan(10);
  expect(paths.filter(path => !isThere(path))).toEqual([]);
});

test('the walk to the bytes of a tag has at most ten stops, each a function of its file', () => {
  const stops = [...WALK.matchAll(/^\d+\. ([^:]*):/gm)].map(([, stop = '']) => stop);
  const named = stops.map(stop => ({
    files: [...stop.matchAll(/`([\w/-]+\.ts)`/g)].map(([, file = '']) => readFileSync(`src/${file}`, 'utf8')),
    functions: [...stop.matchAll(/`(\w+)`/g)].map(([, name = '']) => name),
  }));
  expect(stops.length).toBeGreaterThan(5);
  expect(stops.length).toBeLessThanOrEqual(10);
  for (const { files, functions } of named) {
    expect(functions.length).toBeGreaterThan(0);
    for (const name of functions) expect(files.join('\n')).toContain(`function ${name}(`);
  }
});
