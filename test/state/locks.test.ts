// Locks of one process, and shared ones over records in SQLite.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createProcessLocks } from '../../src/state/locks.ts';
import { createSqliteStore } from '../../src/state/sqlite.ts';
import { locksContract } from '../contract/locks.ts';

describe('shared through a file', () => {
  locksContract(async ({ now }) => {
    const folder = await mkdtemp(join(tmpdir(), 'veneer-locks-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const path = join(folder, 'records.db');
    return [createSqliteStore({ path, now }), createSqliteStore({ path, now })];
  });
});

describe('of one process', () => {
  test('run one after the other under a key, and beside those of others', async () => {
    const locks = createProcessLocks();
    const order: string[] = [];
    const first = Promise.withResolvers<void>();
    const runs = [
      locks.withLock('a', async () => {
        await first.promise;
        order.push('a1');
      }),
      locks.withLock('a', async () => void order.push('a2')),
      locks.withLock('b', async () => void order.push('b')),
    ];
    await runs[2];
    expect([locks.isLocked('a'), locks.isLocked('b')]).toEqual([true, false]);
    expect(await locks.withFreeLock('a', async () => 'runs')).toBeUndefined();
    expect(await locks.withFreeLock('b', async () => 'runs')).toBe('runs');
    first.resolve();
    await Promise.all(runs);
    expect(order).toEqual(['b', 'a1', 'a2']);
  });

  test('are free again after work that failed, and have nothing to expect', async () => {
    const locks = createProcessLocks();
    await expect(locks.withLock('a', () => Promise.reject(new Error('no luck')))).rejects.toThrow('no luck');
    await locks.withLock('a', async ({ fence, lost }) => expect([fence, lost.aborted]).toEqual([[], false]));
    expect(locks.isLocked('a')).toBe(false);
  });
});
