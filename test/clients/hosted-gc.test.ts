// `veneer gc`: what was deleted gives its bytes back, and every other image is as it was.
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { makeTar } from './support/augment.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { run } from './support/process.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);
const Report = z.object({ removed: z.object({ blobs: z.number() }), freedBytes: z.number() });
/** Nothing is too young to go. */
const HOSTED = { collect: { grace: '0s' } };

describe.skipIf(missing)(`gc${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let settings: Readonly<Record<string, unknown>> = {};

  beforeAll(async () => {
    environment = await createEnvironment();
    settings = { dataDir: join(environment.folder, 'data'), hosted: HOSTED };
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('removes the blobs of a deleted manifest alone, and nothing in a dry run', async () => {
    const { address } = await environment.keep(startVeneer(environment.folder, environment.registry, settings));
    const repository = `${address}/local/app`;
    const layer = join(environment.folder, 'layer.tar');
    await writeFile(layer, await makeTar());
    await crane('copy', environment.source, `${repository}:1`);
    await crane('append', '-b', `${repository}:1`, '--platform', 'linux/amd64', '-f', layer, '-t', `${repository}:2`);
    const digest = await crane('digest', `${repository}:2`);
    const before = await listBlobs();
    await crane('delete', `${repository}:2`);
    await crane('delete', `${repository}@${digest}`);

    const rehearsed = await collect('--dry-run');
    expect(await listBlobs()).toHaveLength(before.length - 1);
    expect(await collect()).toEqual(rehearsed);
    // Its config and the layer that was appended; its manifest went with the request.
    expect(rehearsed.removed.blobs).toBe(2);
    expect(await listBlobs()).toHaveLength(before.length - 3);
    await expect(crane('validate', '--remote', `${repository}:1`)).resolves.toMatch(/^PASS/);
    await crane('append', '-b', `${repository}:1`, '--platform', 'linux/amd64', '-f', layer, '-t', `${repository}:2`);
    await expect(crane('validate', '--remote', `${repository}:2`)).resolves.toMatch(/^PASS/);
  });

  async function collect(...options: readonly string[]): Promise<z.output<typeof Report>> {
    // The configuration of the service tells where it can be asked.
    const output = await run(process.execPath, [
      'src/main.ts',
      '--config',
      await findConfig(),
      'gc',
      '--json',
      ...options,
    ]);
    return Report.parse(JSON.parse(output));
  }

  async function findConfig(): Promise<string> {
    const [own = ''] = (await readdir(environment.folder)).filter(name => name.startsWith('veneer-'));
    return join(environment.folder, own, 'veneer.yaml');
  }

  async function listBlobs(): Promise<readonly string[]> {
    const files = await readdir(join(environment.folder, 'data/hosted/blobs'), { recursive: true });
    return files.filter(name => /[0-9a-f]{64}$/.test(name));
  }

  function crane(...args: readonly string[]): Promise<string> {
    return run(clientPath('crane'), args);
  }
});
