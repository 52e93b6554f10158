// Anyone who writes a command into a document says how it is tried, or why not.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { isRun, listBlocks, TRIALS } from '../support/document-commands.ts';

const blocks = listBlocks();

test('each block of commands has a trial, and each trial is of a block', () => {
  expect(blocks.map(({ name }) => name).filter(name => !TRIALS[name])).toEqual([]);
  expect(Object.keys(TRIALS).filter(name => !blocks.some(block => block.name === name))).toEqual([]);
});

test('most of them are run, and others have a test or a reason', () => {
  const trials = Object.values(TRIALS);
  expect(trials.filter(isRun).length).toBeGreaterThan(trials.length / 2);
  const named = trials.flatMap(trial => ('test' in trial ? [trial.test] : []));
  expect(named.filter(path => !existsSync(join(import.meta.dirname, '../..', path)))).toEqual([]);
  expect(trials.filter(trial => 'not' in trial && trial.not === '')).toEqual([]);
});

test('what a trial leaves out or compares is there', () => {
  const wrong = blocks.flatMap(({ name, code, output }) => {
    const trial = TRIALS[name];
    if (!isRun(trial)) return [];
    const lines = code.split('\n');
    const absent = Object.keys(trial.without ?? {}).filter(start => !lines.some(line => line.startsWith(start)));
    return [...absent, ...(trial.compare && output === '' ? [name] : [])];
  });
  expect(wrong).toEqual([]);
});
