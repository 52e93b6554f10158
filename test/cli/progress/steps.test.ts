// How far each platform is, from what is reported about its steps.
import { expect, test } from 'vitest';
import type { LogEntry } from '../../../src/builds/progress.ts';
import { createStepCounter } from '../../../src/cli/progress.ts';

type Told = readonly [step: string, state: NonNullable<LogEntry['state']>];

function count(platform: string | undefined, ...told: readonly Told[]) {
  const counter = createStepCounter();
  const at = '2030-01-01T00:00:00Z';
  return told.map(([step, state]) => counter.count({ at, kind: 'step', platform, step, state })).at(-1);
}

const cases: [string, readonly Told[], object][] = [
  ['a step that begins is known', [['load', 'started']], { done: 0, total: 1, step: 'load' }],
  [
    'a step is counted once',
    [
      ['load', 'started'],
      ['load', 'done'],
      ['load', 'done'],
    ],
    { done: 1, total: 1 },
  ],
  ['what was cached is done', [['load', 'cached']], { done: 1, total: 1 }],
  ['what failed is not done', [['load', 'failed']], { done: 0, total: 1 }],
  ['a numbered step tells of the others', [['[linux/arm64 1/3] FROM x', 'done']], { done: 1, total: 3 }],
  [
    'the steps of a stage are counted once',
    [
      ['[linux/arm64 build 1/3] FROM x', 'done'],
      ['[linux/arm64 build 2/3] RUN y', 'done'],
    ],
    { done: 2, total: 3 },
  ],
  [
    'stages add up, and steps of no stage too',
    [
      ['[build 1/3] FROM x', 'done'],
      ['[stage-1 1/2] FROM y', 'done'],
      ['exporting', 'started'],
    ],
    { done: 2, total: 6, step: 'exporting' },
  ],
];

test.each(cases)('%s', (_, told, expected) => {
  expect(count('linux/arm64', ...told)).toMatchObject({ platform: 'linux/arm64', ...expected });
});

test('platforms are counted apart', () => {
  const counter = createStepCounter();
  const step = { at: '2030-01-01T00:00:00Z', kind: 'step', step: 'a', state: 'done' } as const;
  counter.count({ ...step, platform: 'linux/amd64' });
  expect(counter.count({ ...step, platform: 'linux/arm64' })).toMatchObject({ done: 1, total: 1 });
});

test('steps of no platform are the build’s', () => {
  expect(count(undefined, ['load', 'done'])).toMatchObject({ platform: 'build', done: 1 });
});

test.each(['output', 'note'] as const)('an entry of kind %s is no step', kind => {
  expect(createStepCounter().count({ at: '2030-01-01T00:00:00Z', kind, step: 'a', text: 'x' })).toBeUndefined();
});
