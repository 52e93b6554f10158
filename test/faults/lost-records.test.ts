// Veneer as a process, over records that were lost, taken back or cut: it starts, says so, is not ready, and pulls go on.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, test, vi } from 'vitest';
import { digestOf } from '../../src/oci/digest.ts';
import { address, data, file, RAW, start } from './harmed-service.ts';

// Three starts of a process, where the machine is busy.
vi.setConfig({ testTimeout: 90_000 });

async function pushBlob(text: string): Promise<void> {
  const path = `/v2/local/app/blobs/uploads/?digest=${digestOf(Buffer.from(text))}`;
  const { status } = await fetch(`http://${address}${path}`, { method: 'POST', body: text });
  expect(status).toBe(201);
}

async function readiness() {
  const response = await fetch(`http://${address}/health/ready`);
  return [response.status, await response.json()];
}

test('records that are removed under the service take no push, and readiness tells', async () => {
  await start();
  await pushBlob('bytes');
  for (const end of ['', '-wal', '-shm']) await rm(join(data, `records.db${end}`), { force: true });
  expect(await readiness()).toMatchObject([
    503,
    { status: 'DOWN', reason: expect.stringMatching(/removed or replaced/) },
  ]);
  const path = `/v2/local/app/blobs/uploads/?digest=${digestOf(Buffer.from('lost'))}`;
  const refused = await fetch(`http://${address}${path}`, { method: 'POST', body: 'lost' });
  expect([refused.status, await refused.text()]).toEqual([503, expect.stringContaining('UNAVAILABLE')]);
});

test.each<[string, RegExp, () => Promise<unknown>]>([
  ['are gone', /are gone/, () => rm(join(data, 'records.db'))],
  ['have lost their write-ahead log', /are (?:older|gone)/, () => rm(join(data, 'records.db-wal'))],
  ['have an empty write-ahead log', /are (?:older|gone)/, () => truncate(join(data, 'records.db-wal'), 0)],
])(
  'records that %s are reported in log and readiness, and pulls go on',
  { timeout: 90_000 },
  async (_, reason, harm) => {
    const first = await start();
    for (let at = 0; at < 30; at += 1) await pushBlob(`bytes of ${at}`);
    expect(await readiness()).toEqual([200, { status: 'UP' }]);
    await first.kill();
    await harm();
    const second = await start();
    expect(await readiness()).toMatchObject([503, { status: 'DOWN', reason: expect.stringMatching(reason) }]);
    expect(second.readOutput()).toMatch(/"level":50.*the records are .*veneer repair/);
    const pulled = await fetch(`http://${address}/v2/lab/library/app/blobs/${digestOf(RAW)}`);
    expect(Buffer.from(await pulled.arrayBuffer())).toEqual(RAW);
    // Pushes go on as well, and what they bring makes nothing whole.
    await pushBlob('bytes of a later push');
    await second.kill();
    await start();
    expect((await readiness())[0]).toBe(503);
  },
);

test('records that are lost while it is killed are rebuilt by a command, and it is ready again', {
  timeout: 90_000,
}, async () => {
  const first = await start();
  for (let at = 0; at < 10; at += 1) await pushBlob(`bytes of ${at}`);
  await first.kill();
  for (const end of ['', '-wal', '-shm']) await rm(join(data, `records.db${end}`), { force: true });
  const repair = spawn(process.execPath, ['src/main.ts', '--config', file, 'repair'], { stdio: 'pipe' });
  const [out, [exitCode]] = await Promise.all([text(repair.stdout), once(repair, 'exit')]);
  expect([out, exitCode]).toEqual([expect.stringContaining('rebuilt: 0 tags, 0 manifests, 10 blobs\n'), 0]);
  await start();
  expect(await readiness()).toEqual([200, { status: 'UP' }]);
  const digest = digestOf(Buffer.from('bytes of 7'));
  const pulled = await fetch(`http://${address}/v2/local/app/blobs/${digest}`);
  expect(await pulled.text()).toBe('bytes of 7');
});
