// CONTRIBUTING.md names files, folders, test projects and what is in them: all of that is there.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import config from '../../vitest.config.ts';

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');
const PAGE = read('CONTRIBUTING.md');

const PATH = /(?<![\w./-])(?:src|test|docs|\.ci)(?:\/[\w.-]+)+\/?/g;

test('every path that is named is there', () => {
  const paths = [...new Set(PAGE.match(PATH))];
  expect(paths.length).toBeGreaterThan(25);
  expect(paths.filter(path => !existsSync(join(ROOT, path)))).toEqual([]);
});

test.each([
  ['backendKinds', 'src/builds/backend.ts'],
  ['backendSchema', 'src/config/builds-schema.ts'],
  ['backendContract', 'test/contract/build-backend.ts'],
  ['backendContract', 'test/clients/build-buildkit.test.ts'],
  ['RuleLayer', 'src/rules/rules.ts'],
  ['waitUntil', 'test/clients/support/process.ts'],
  ['IMPATIENT', 'test/support/patience.ts'],
])('%s is in %s', (name, path) => {
  expect([PAGE.includes(`\`${name}\``), read(path).includes(name)]).toEqual([true, true]);
});

test('the table has the projects, in their order', () => {
  const rows = [...PAGE.matchAll(/^\| `(\w+)` +\|/gm)].map(([, name]) => name);
  const projects = config.test?.projects?.map(project =>
    typeof project === 'object' && 'test' in project ? project.test?.name : project,
  );
  expect(rows).toEqual(projects);
});

test('the files of a change name what they are said to have, for one field of all', () => {
  const [, section = ''] = /## A field that rules can change\n([\s\S]*?)\nAnother kind/.exec(PAGE) ?? [];
  const files = [...section.matchAll(/`(src\/[\w./-]+\.ts)`/g)].map(([, file = '']) => file);
  const hasField = (file: string) => /labels|annotations|textMapSchema/.test(read(file));
  expect(files.length).toBeGreaterThan(7);
  expect(files.filter(file => !hasField(file))).toEqual([]);
});
