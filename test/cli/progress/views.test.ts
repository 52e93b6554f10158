// What is seen of a build: lines where no terminal is, bars where one is.
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { LogEntry } from '../../../src/builds/progress.ts';
import { createBarView, formatEntry } from '../../../src/cli/progress.ts';
import { createTerminal } from '../terminal.ts';

const at = '2030-01-01T00:00:00Z';
const step = '[linux/arm64 1/2] FROM x';

const lines: [string, Omit<LogEntry, 'at'>, string | undefined][] = [
  ['a step that begins', { kind: 'step', platform: 'linux/arm64', step, state: 'started' }, step],
  ['a step that ends', { kind: 'step', platform: 'linux/arm64', step, state: 'done' }, `${step}: done`],
  ['a step of the cache', { kind: 'step', platform: 'linux/arm64', step, state: 'cached' }, `${step}: cached`],
  ['a step that fails', { kind: 'step', step, state: 'failed', text: 'exit code 2' }, `${step}: failed exit code 2`],
  ['a step that only counts', { kind: 'step', step, progress: { current: 1 } }, undefined],
  [
    'a step that does not name its platform',
    { kind: 'step', platform: 'linux/arm64', step: 'RUN x', state: 'done' },
    '[linux/arm64] RUN x: done',
  ],
  ['output', { kind: 'output', platform: 'linux/arm64', step, text: 'hello' }, 'linux/arm64 | hello'],
  ['output of no platform', { kind: 'output', text: 'hello' }, 'hello'],
  ['a note', { kind: 'note', platform: 'linux/arm64', text: 'hello' }, 'hello'],
  ['escape sequences', { kind: 'output', text: '\u001b]0;title\u0007a\u001b[1Ab\rc\td' }, 'ab c\td'],
];

test.each(lines)('%s as a line', (_, entry, line) => {
  expect(formatEntry({ at, ...entry })).toBe(line);
});

describe('on a terminal', () => {
  const seen = (terminal: { text(): string }) => stripVTControlCharacters(terminal.text());

  test('each platform has a bar, with its step', async () => {
    const terminal = createTerminal();
    const view = await createBarView(terminal);
    view.show({ at, kind: 'step', platform: 'linux/arm64', step, state: 'done' });
    view.show({ at, kind: 'step', platform: 'linux/amd64', step: '[linux/amd64 2/2] RUN y', state: 'started' });
    view.show({ at, kind: 'output', platform: 'linux/amd64', text: 'not seen while it goes well' });
    view.close({ isFailed: false });
    expect(seen(terminal)).toMatch(/linux\/arm64 .* 1\/2 \[linux\/arm64 1\/2\] FROM x/);
    expect(seen(terminal)).toMatch(/linux\/amd64 .* 0\/2 \[linux\/amd64 2\/2\] RUN y/);
    expect(seen(terminal)).not.toContain('not seen');
  });

  test('the cursor is there again in the end, and nothing is timed any more', async () => {
    const terminal = createTerminal();
    const view = await createBarView(terminal);
    view.show({ at, kind: 'step', platform: 'linux/arm64', step, state: 'started' });
    view.close({ isFailed: false });
    const [hide, show] = ['\u001b[?25l', '\u001b[?25h'];
    expect(terminal.text().indexOf(hide)).toBeGreaterThanOrEqual(0);
    expect(terminal.text().lastIndexOf(show)).toBeGreaterThan(terminal.text().lastIndexOf(hide));
  });

  test('a failure leaves the last lines that were printed', async () => {
    const terminal = createTerminal();
    const view = await createBarView(terminal);
    for (let at = 1; at <= 30; at += 1) view.show({ at: '2030-01-01T00:00:00Z', kind: 'output', text: `line ${at}` });
    view.show({ at, kind: 'step', platform: 'linux/arm64', step, state: 'failed' });
    view.close({ isFailed: true });
    const left = seen(terminal).split('\n');
    expect(left).toContain('line 12');
    expect(left).not.toContain('line 11');
    expect(left).toContain(`${step}: failed`);
  });
});
