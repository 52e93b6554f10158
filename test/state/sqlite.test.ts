// The SQLite store keeps the contract, and its records outlive the process.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { recordStoreContract } from '../contract/record-store.ts';

describe('contract', () => {
  recordStoreContract(async ({ now }) => createSqliteStore({ path: temporaryPath(), now }));
});

test('finds its records after a restart', async () => {
  const path = temporaryPath();
  const before = createSqliteStore({ path });
  await before.put('tokens', 'a', Uint8Array.of(1));
  await before.close();
  const after = createSqliteStore({ path });
  expect([...((await after.get('tokens', 'a')) ?? [])]).toEqual([1]);
  await after.close();
});

test('has put a record on disk when put resolves: a second connection sees it', async () => {
  const path = temporaryPath();
  const writer = createSqliteStore({ path });
  const reader = createSqliteStore({ path });
  await writer.put('tokens', 'a', Uint8Array.of(1));
  expect(await reader.get('tokens', 'a')).toHaveLength(1);
  await writer.close();
  await reader.close();
});

/** In a directory that is not there yet. */
function temporaryPath(): string {
  const directory = mkdtempSync(join(tmpdir(), 'veneer-state-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return join(directory, 'data', 'state.db');
}
