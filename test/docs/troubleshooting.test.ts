// docs/troubleshooting.md quotes messages: each is one of ours, word for word, or one that an engine was seen to show by another test.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(ROOT, path), 'utf8');

/** Texts that are continued on another line are one, and what is put into them is the ellipsis of the page. */
const source = globSync('src/**/*.ts', { cwd: ROOT })
  .map(read)
  .join('\n')
  .replaceAll(/['`] \+\n\s*['`]/g, '');
/** What engines and proxies were seen to show, and messages whose parts only meet when they are made. */
const shown = [
  'docs/prompt.md',
  'test/main.test.ts',
  'test/upstream/failure.test.ts',
  'docs/quick-start-pull.md',
  'docs/quick-start-augment.md',
  ...globSync('test/clients/*.ts', { cwd: ROOT }),
]
  .map(read)
  .join('\n');

const messages = [...read('docs/troubleshooting.md').matchAll(/^\| (`.+?) +\|/gm)].flatMap(([, cell = '']) =>
  [...cell.matchAll(/`([^`]+)`/g)].map(([, message = '']) => message),
);

test('there are many, none twice in one table', () => {
  expect(messages.length).toBeGreaterThan(45);
});

test.each(messages)('%s', message => {
  const parts = message.split('…').filter(part => /\w{3}/.test(part));
  const isIn = (corpus: string) => parts.every(part => corpus.includes(part.trim()));
  expect(isIn(source) || isIn(shown)).toBe(true);
});
