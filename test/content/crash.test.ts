// A process that is killed while it keeps content and makes room, again and again: what is there is whole, and soon within the budget.
import { spawn } from 'node:child_process';
import { mkdtemp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { createUseTimes } from '../../src/cache/eviction/usage.ts';
import { createDiskStore } from '../../src/content/disk.ts';
import { createVerifier } from '../../src/oci/verify.ts';
import { openPlace } from '../cache/eviction/fixture.ts';

const KILLS = 6;
const BODY_BYTES = 100_000;
const BUDGET = { highBytes: 2_000_000, lowBytes: 1_000_000 };

test('a store that was killed in a loop holds nothing but whole content, and comes within its budget', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-killed-'));
  for (let kill = 0; kill < KILLS; kill += 1) {
    // A little later each time, so that it hits other moments.
    await killAfter(directory, 100 + kill * 17);
    await verifyAll(directory);
  }
  expect(await readdir(join(directory, 'ingest'))).toEqual([]);
  const place = await openPlace({ budget: BUDGET, directory });
  await place.settle();
  expect(place.usage.bytes).toBeLessThanOrEqual(BUDGET.highBytes);
  expect(await place.inventory()).toHaveLength(place.usage.bytes / BODY_BYTES);
  await place.close();
});

async function killAfter(directory: string, lines: number): Promise<void> {
  const keeper = join(import.meta.dirname, '../cache/eviction/keeper.ts');
  const child = spawn(process.execPath, [keeper, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
  let seen = 0;
  for await (const _ of createInterface({ input: child.stdout })) if (++seen === lines) child.kill('SIGKILL');
  expect(seen).toBeGreaterThanOrEqual(lines);
}

async function verifyAll(directory: string): Promise<void> {
  const store = await createDiskStore({ directory });
  let count = 0;
  for await (const { digest } of createUseTimes({ directory }).read()) {
    const verifier = createVerifier({ digest, size: BODY_BYTES });
    verifier.update((await store.read(digest, 2 ** 30)) ?? Buffer.of());
    verifier.finish();
    count += 1;
  }
  expect(count).toBeGreaterThan(0);
  await store.close();
}
