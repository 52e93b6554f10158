// A real podman with Veneer as its mirror of Docker Hub, by the file that Veneer makes. CRI-O reads the same.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findMissing } from './support/clients.ts';
import type { Server } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { BOTH, type Hidden, MIRRORED, makeMirrorFile, startHidden } from './support/mirrored.ts';
import { type Killable, run } from './support/process.ts';

/** What podman says when it has gone to Docker Hub itself. */
const HUB = 'registry-1.docker.io';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'podman']);

describe.skipIf(missing)(`podman, mirrored${missing ? ` (${missing})` : ''}`, { timeout: 100_000 }, () => {
  let environment: Environment;
  let hidden: Hidden;
  let veneer: Server & Killable;
  /** Their registries.conf. */
  let plain = '';
  let strict = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    hidden = await startHidden(environment);
    veneer = await hidden.startVeneer();
    plain = await place('plain.conf', await makeMirrorFile('podman', veneer.address));
    strict = await place('strict.conf', await makeMirrorFile('podman', veneer.address, '--strict'));
  }, 180_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(PLATFORMS)('pulls %s through the mirror, with the digest of the upstream', async platform => {
    for (const file of [plain, strict]) {
      const { digests, os, architecture } = await pull(file, MIRRORED, '--platform', platform);
      expect(digests).toContain(`docker.io/library/mirrored@${hidden.digest}`);
      expect(`${platform}/`).toContain(`${os}/${architecture}/`);
    }
  });

  test('continues pulling what is kept while the upstream is dead', async () => {
    await hidden.registry.stop();
    for (const file of [plain, strict]) {
      for (const platform of PLATFORMS) {
        expect((await pull(file, MIRRORED, '--platform', platform)).digests).toContain(hidden.digest);
      }
    }
  });

  test('falls back to Docker Hub for what is not kept, but by a strict file: there the failure is final', async () => {
    expect(await failToPull(plain)).toContain(HUB);
    const final = await failToPull(strict);
    expect(final).not.toContain(HUB);
    expect(final).toMatch(/reading manifest 1 in 127\.0\.0\.1:\d+\/docker\.io\/library\/bb: .* 50[23] /);
  });

  test('falls back to Docker Hub from a mirror that is dead itself, but by a strict file', async () => {
    await veneer.kill();
    expect(await failToPull(plain)).toContain(HUB);
    const final = await failToPull(strict);
    expect(final).not.toContain(HUB);
    expect(final).toContain(`${veneer.address}: connect: connection refused`);
  });

  async function failToPull(file: string): Promise<string> {
    return pull(file, BOTH).then(
      () => 'it was pulled',
      error => String(error),
    );
  }

  async function place(name: string, content: string): Promise<string> {
    const path = join(environment.folder, name);
    await writeFile(path, content);
    return path;
  }

  /** From Docker Hub, into a store that has nothing. The way to Docker Hub itself ends on this machine. */
  async function pull(file: string, name: string, ...options: readonly string[]) {
    const image = `docker.io/${name}`;
    const folder = await mkdtemp(join(environment.folder, 'podman-'));
    const store = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs'];
    const podman = (...args: readonly string[]) =>
      run('podman', [...store, ...args], {
        env: { CONTAINERS_REGISTRIES_CONF: file, HTTPS_PROXY: 'http://127.0.0.1:1' },
      });
    await podman('pull', ...options, image);
    const shown = await podman('image', 'inspect', '--format', '{{.Os}} {{.Architecture}} {{.RepoDigests}}', image);
    const [os = '', architecture = '', ...digests] = shown.split(' ');
    return { os, architecture, digests: digests.join(' ') };
  }
});
