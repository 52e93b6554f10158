import { expect, test } from 'vitest';
import { formatLogEntry, type LogEntry } from '../../../src/builds/progress.ts';

const at = '2030-01-02T03:04:05.678Z';
const step = '[2/3] RUN make';

test.each<[Omit<LogEntry, 'at'>, string]>([
  [{ kind: 'output', platform: 'linux/arm64', step, text: 'cc main.c' }, 'linux/arm64 [2/3] RUN make | cc main.c'],
  [{ kind: 'output', step, text: '' }, '[2/3] RUN make |'],
  [{ kind: 'step', platform: 'linux/arm64', step, state: 'started' }, 'linux/arm64 [2/3] RUN make: started'],
  [
    { kind: 'step', platform: 'linux/arm64', step: '[linux/arm64 2/3] RUN make', state: 'done' },
    '[linux/arm64 2/3] RUN make: done',
  ],
  [{ kind: 'step', step, progress: { current: 5, total: 10 } }, '[2/3] RUN make: 5/10'],
  [{ kind: 'step', step, progress: { current: 5 } }, '[2/3] RUN make: 5'],
  [{ kind: 'note', text: 'succeeded' }, 'note: succeeded'],
  [{ kind: 'note', platform: 'linux/arm64', text: 'slow' }, 'linux/arm64 note: slow'],
  [{ kind: 'output', step: 'x', text: '\u001b[31mred\u001b[0m\ta\rb\u0000c\nd' }, 'x | red\ta b c d'],
])('%j is %j', (entry, line) => {
  expect(formatLogEntry({ at, ...entry })).toBe(`${at} ${line}`);
});
