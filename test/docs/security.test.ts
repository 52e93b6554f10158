// docs/security.md has a row for each attack of test/attacks, and every key that it names is there.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const read = (name: string) => readFileSync(join(import.meta.dirname, '../..', name), 'utf8');
const page = read('docs/security.md');

test('each attack has a row, and each row an attack', () => {
  const table = page.slice(page.indexOf('## Attacks'), page.indexOf('## What is installed'));
  const named = [...table.matchAll(/^\|[^|]+\| `([^`]+)` +\|/gm)].map(([, name]) => name);
  const titles = [...read('test/attacks/attacks.test.ts').matchAll(/^ {2}\S.*?\(?'([^':]+)(?::[^']*)?', NOISY/gm)];
  expect(new Set(named)).toEqual(new Set(titles.map(([, name]) => name)));
  expect(named.length).toBeGreaterThan(10);
});

test('the keys that it names are keys', () => {
  const keys = [...page.matchAll(/`((?:limits|cache|tokens|builds|hosted)(?:\.\w+)+)`/g)].map(([, key = '']) => key);
  const known = read('docs/configuration.md');
  expect(keys.filter(key => !known.includes(`\`${key}`))).toEqual([]);
});
