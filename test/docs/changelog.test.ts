// CHANGELOG.md has the form of Keep a Changelog, begins with the version of the package, and names commands that there are.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const read = (path: string) => readFileSync(join(import.meta.dirname, '../..', path), 'utf8');
const page = read('CHANGELOG.md');

test('the newest version is that of the package, and each has a date or is unreleased', () => {
  const versions = [...page.matchAll(/^## \[(.+?)\] - (\d{4}-\d\d-\d\d|unreleased)$/gm)].map(([, version]) => version);
  expect(versions[0]).toBe(JSON.parse(read('package.json')).version);
  expect(page.match(/^## /gm)).toHaveLength(versions.length);
});

test('changes are of the kinds that there are', () => {
  const kinds = new Set((page.match(/^### .+$/gm) ?? []).map(line => line.slice(4)));
  expect([...kinds].filter(kind => !/^(Added|Changed|Deprecated|Removed|Fixed|Security)$/.test(kind))).toEqual([]);
});

test('commands and files that it names are documented and there', () => {
  const commands = [...page.matchAll(/`veneer ([a-z]+)/g)].map(([, name]) => name);
  expect(
    commands.filter(name => !`${read('docs/cli.md')}${read('docs/mirror.md')}`.includes(`veneer ${name}`)),
  ).toEqual([]);
});
