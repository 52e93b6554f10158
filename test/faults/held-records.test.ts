// Veneer as a process, while another program holds the lock of its records, and over records that are damaged.
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { waitUntil } from '../clients/support/process.ts';
import { address, data, RAW, start } from './harmed-service.ts';

function pushBlob(text: string): Promise<Response> {
  const path = `/v2/local/app/blobs/uploads/?digest=${digestOf(Buffer.from(text))}`;
  return fetch(`http://${address}${path}`, { method: 'POST', body: text });
}

/** Pulls one after the other until it is told to end. */
function keepPulling() {
  let isOver = false;
  let count = 0;
  const pulling = (async () => {
    while (!isOver) {
      const pulled = await fetch(`http://${address}/v2/lab/library/app/blobs/${digestOf(RAW)}`);
      expect(Buffer.from(await pulled.arrayBuffer())).toEqual(RAW);
      count += 1;
      await wait(20);
    }
  })();
  return {
    /** How many have ended so far. */
    count: () => count,
    end() {
      isOver = true;
      return pulling;
    },
  };
}

test('while another program holds the lock pulls go on, a push waits, and one that waits for long is told to come again', async () => {
  await start();
  expect((await pushBlob('warm')).status).toBe(201);
  await (await fetch(`http://${address}/v2/lab/library/app/blobs/${digestOf(RAW)}`)).arrayBuffer();
  const pulls = keepPulling();
  /** Two that ended one after the other: the last of them began after the lock was there. */
  const waitForPulls = async () => {
    const before = pulls.count();
    await waitUntil(async () => expect(pulls.count()).toBeGreaterThan(before + 1));
  };

  const lock = new DatabaseSync(join(data, 'records.db'), { timeout: 5_000 });
  lock.exec('BEGIN IMMEDIATE');
  let isAnswered = false;
  const waiting = pushBlob('waits').finally(() => {
    isAnswered = true;
  });
  await waitForPulls();
  await wait(1_000);
  expect(isAnswered).toBe(false);
  lock.exec('ROLLBACK');
  expect((await waiting).status).toBe(201);

  lock.exec('BEGIN IMMEDIATE');
  const refused = await pushBlob('is refused');
  await waitForPulls();
  lock.close();
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '5']);
  expect(await refused.json()).toMatchObject({ errors: [{ code: 'UNAVAILABLE' }] });
  expect((await pushBlob('is refused')).status).toBe(201);

  await pulls.end();
}, 240_000);

test('a drain waits for what is being written', async () => {
  const veneer = await start();
  expect((await pushBlob('warm')).status).toBe(201);
  const lock = new DatabaseSync(join(data, 'records.db'), { timeout: 5_000 });
  lock.exec('BEGIN IMMEDIATE');
  const waiting = pushBlob('waits');
  await wait(1_000);
  const stopped = veneer.stop();
  await wait(1_000);
  lock.close();
  expect((await waiting).status).toBe(201);
  await stopped;
  await start();
  const head = await fetch(`http://${address}/v2/local/app/blobs/${digestOf(Buffer.from('waits'))}`, {
    method: 'HEAD',
  });
  expect(head.status).toBe(200);
}, 240_000);

test('damaged records after a crash: the start continues, readiness tells, and pulls go on', async () => {
  const first = await start();
  for (let at = 0; at < 150; at += 1) expect((await pushBlob(`bytes of ${at}`)).status).toBe(201);
  await (await fetch(`http://${address}/v2/lab/library/app/blobs/${digestOf(RAW)}`)).arrayBuffer();
  const database = new DatabaseSync(join(data, 'records.db'), { timeout: 5_000 });
  database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  database.close();
  await first.kill();
  await damage(join(data, 'records.db'));

  const second = await start();
  await waitUntil(async () => expect(second.readOutput()).toMatch(/"condition":"damaged".*veneer restore/));
  const ready = await fetch(`http://${address}/health/ready`);
  expect([ready.status, await ready.json()]).toEqual([
    503,
    expect.objectContaining({ status: 'DOWN', reason: expect.stringContaining('damaged') }),
  ]);
  let served = 0;
  for (let at = 0; at < 150; at += 1) {
    const pulled = await fetch(`http://${address}/v2/local/app/blobs/${digestOf(Buffer.from(`bytes of ${at}`))}`);
    served += pulled.status === 200 && (await pulled.text()) === `bytes of ${at}` ? 1 : 0;
  }
  expect(served).toBeGreaterThan(75);
}, 240_000);

/** The last page. */
async function damage(path: string): Promise<void> {
  const handle = await open(path, 'r+');
  const { size } = await handle.stat();
  await handle.write(Buffer.alloc(2000, 0x5a), 0, 2000, size - 4096 + 8);
  await handle.close();
}
