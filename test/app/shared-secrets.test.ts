// Keys that all processes with the same records have.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { SHARED_SECRETS } from '../../src/access/keys.ts';
import { shareSecrets } from '../../src/app/recording.ts';
import { createMemoryStore } from '../support/memory-records.ts';

test('a process that starts on an empty directory gets those of the first one', async () => {
  const records = createMemoryStore();
  const folder = await mkdtemp(join(tmpdir(), 'veneer-secrets-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [first, second] = await Promise.all(['one-', 'two-'].map(name => mkdtemp(join(folder, name))));
  for (const dataDir of [`${first}`, `${second}`]) await shareSecrets({ records, dataDir });
  for (const name of Object.keys(SHARED_SECRETS)) {
    const [one, two] = await Promise.all([first, second].map(dataDir => readFile(join(`${dataDir}`, name), 'utf8')));
    expect([name, two]).toEqual([name, one]);
  }
});
