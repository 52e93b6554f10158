// A real engine with Veneer as its mirror of Docker Hub, by the file that Veneer makes.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findMissing } from './support/clients.ts';
import { type Server, startDocker } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { BOTH, type Hidden, MIRRORED, makeMirrorFile, startHidden } from './support/mirrored.ts';
import { type Killable, run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker']);

/** What an engine says that has gone to Docker Hub itself. */
const HUB = 'registry-1.docker.io';

describe.skipIf(missing)(`docker, mirrored${missing ? ` (${missing})` : ''}`, { timeout: 100_000 }, () => {
  let environment: Environment;
  let hidden: Hidden;
  let veneer: Server & Killable;
  let strictVeneer: Server & Killable;
  let host = '';
  let strictHost = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    hidden = await startHidden(environment);
    veneer = await hidden.startVeneer();
    strictVeneer = await hidden.startVeneer({ strict: true });
    host = await startEngine(veneer);
    strictHost = await startEngine(strictVeneer);
  }, 180_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(PLATFORMS)('pulls %s through the mirror, with the digest of the upstream', async platform => {
    for (const engine of [host, strictHost]) {
      const said = await docker(engine, 'pull', '--platform', platform, MIRRORED);
      expect(said).toContain(`Digest: ${hidden.digest}`);
      const [os, architecture] = platform.split('/');
      const shown = await docker(engine, 'image', 'inspect', '-f', '{{.Os}}/{{.Architecture}}', MIRRORED);
      expect(shown).toBe(`${os}/${architecture}`);
    }
  });

  test('continues pulling what is kept while the upstream is dead', async () => {
    await hidden.registry.stop();
    for (const engine of [host, strictHost]) {
      await docker(engine, 'image', 'rm', '--force', MIRRORED);
      for (const platform of PLATFORMS) {
        expect(await docker(engine, 'pull', '--platform', platform, MIRRORED)).toContain(hidden.digest);
      }
    }
  });

  test('falls back to Docker Hub for what is not kept, but from a strict mirror: that failure is final, and tells why', async () => {
    const fallenBack = await failToPull(host);
    expect(fallenBack).toContain(HUB);
    const final = await failToPull(strictHost);
    expect(final).not.toContain(HUB);
    expect(final).toMatch(/unexpected HTTP status: 503 docker\.io: .+ \(docker\.io is strict: no such process\)/);
  });

  test('falls back to Docker Hub from any mirror that is dead itself', async () => {
    await veneer.kill();
    await strictVeneer.kill();
    expect(await failToPull(host)).toContain(HUB);
    expect(await failToPull(strictHost)).toContain(HUB);
  });

  /** Its way to Docker Hub ends on this machine. */
  async function startEngine({ address }: Server): Promise<string> {
    const folder = await mkdtemp(join(environment.folder, 'engine-'));
    const configFile = join(folder, 'daemon.json');
    await writeFile(configFile, await makeMirrorFile('docker', address));
    return (await environment.keep(startDocker(folder, { configFile, env: { HTTPS_PROXY: 'http://127.0.0.1:1' } })))
      .host;
  }

  async function failToPull(engine: string): Promise<string> {
    return docker(engine, 'pull', BOTH).then(
      () => 'it was pulled',
      error => String(error),
    );
  }

  async function docker(engine: string, ...args: readonly string[]): Promise<string> {
    return await run('docker', ['-H', engine, ...args]);
  }
});
