// By what name builders reach us: as it is configured, else where we listen, and not before we do.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { findOwnHost } from '../../src/app/builder-access.ts';
import { loadConfig } from '../../src/config/config.ts';

async function configOf(settings: object) {
  const directory = await mkdtemp(join(tmpdir(), 'veneer-own-host-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const file = join(directory, 'veneer.yaml');
  await writeFile(file, JSON.stringify(settings));
  return loadConfig({ file, env: {}, flags: {} });
}

test.each<[string, object, string]>([
  ['where we listen', { listen: '127.0.0.1:8080', publicUrl: 'https://veneer.example' }, '127.0.0.1:8080'],
  ['on this machine, where we listen for all', { listen: '0.0.0.0:8080' }, 'localhost:8080'],
  [
    'in public, where we listen for all',
    { listen: '0.0.0.0:8080', publicUrl: 'https://veneer.example' },
    'veneer.example',
  ],
  ['as it is configured', { listen: '0.0.0.0:8080', builds: { registryHost: 'veneer:80' } }, 'veneer:80'],
])('%s', async (_, settings, host) => {
  const config = await configOf(settings);
  const listening = config.listen.host === '0.0.0.0' ? 'localhost:8080' : '127.0.0.1:8080';
  expect(findOwnHost({ config, findListenHost: () => listening })).toBe(host);
});

test('is a matter of time as long as nobody listens', async () => {
  const config = await configOf({ listen: '127.0.0.1:0' });
  expect(() => findOwnHost({ config, findListenHost: () => undefined })).toThrow(
    expect.objectContaining({ code: 'UNAVAILABLE', status: 503 }),
  );
});
