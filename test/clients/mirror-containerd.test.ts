// A real containerd with Veneer as the mirror of two registries, by the files that Veneer makes, and at a path of its own.
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findMissing } from './support/clients.ts';
import { type Server, startContainerd } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { BOTH, type Hidden, MIRRORED, makeMirrorFile, startHidden } from './support/mirrored.ts';
import { type Killable, run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'containerd', 'ctr', 'htpasswd']);

describe.skipIf(missing)(`containerd, mirrored${missing ? ` (${missing})` : ''}`, { timeout: 100_000 }, () => {
  let environment: Environment;
  let hidden: Hidden;
  let veneer: Server & Killable;
  let socket = '';
  /** Folders of hosts.toml files. */
  let plain = '';
  let strict = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    hidden = await startHidden(environment);
    veneer = await hidden.startVeneer();
    socket = (await environment.keep(startContainerd(environment.folder))).socket;
    plain = await placeHosts(await makeMirrorFile('containerd', veneer.address));
    strict = await placeHosts(await makeMirrorFile('containerd', veneer.address, '--strict'));
  }, 180_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(PLATFORMS)('pulls %s through the mirror, with the digest of the upstream', async platform => {
    for (const hosts of [plain, strict]) {
      for (const registry of ['docker.io', environment.registry]) {
        expect(await pull(hosts, `${registry}/${MIRRORED}`, '--platform', platform)).toContain(` ${hidden.digest} `);
      }
    }
  });

  test('pulls through a mirror at a path, whose names begin with the registry', async () => {
    const path = `[host."http://${veneer.address}/v2/docker.io"]\n  override_path = true\n`;
    expect(await pull(await placeHosts(path), `docker.io/${MIRRORED}`)).toContain(` ${hidden.digest} `);
  });

  test('gets a token for the registry behind the mirror, and pulls with that what its user may', async () => {
    const htpasswd = join(environment.folder, 'htpasswd');
    await run('htpasswd', ['-B', '-i', '-c', htpasswd, 'reader'], { input: 'a password' });
    const grants = [{ users: ['reader'], repositories: [`${environment.registry}/library/**`], allow: ['pull'] }];
    const { address } = await hidden.startVeneer({}, { access: { htpasswd, grants } });
    const hosts = await placeHosts(await makeMirrorFile('containerd', address, '--strict'));
    const user = ['--user', 'reader:a password'];
    expect(await pull(hosts, `${environment.registry}/${MIRRORED}`, ...user)).toContain(` ${hidden.digest} `);
    await expect(pull(hosts, `${environment.registry}/${MIRRORED}`)).rejects.toThrow(
      'insufficient_scope: authorization failed',
    );
    await expect(pull(hosts, `docker.io/${MIRRORED}`, ...user)).rejects.toThrow(
      /authorization failed|403 .* may not pull/,
    );
  });

  test('continues pulling what is kept while the upstream is dead', async () => {
    await hidden.registry.stop();
    for (const hosts of [plain, strict]) {
      for (const platform of PLATFORMS) {
        const line = await pull(hosts, `docker.io/${MIRRORED}`, '--platform', platform);
        expect(line).toContain(` ${hidden.digest} `);
      }
    }
  });

  test('falls back to the registry itself for what is not kept, but by a strict file: there the failure is final', async () => {
    const image = `${environment.registry}/${BOTH}`;
    expect(await pull(plain, image)).toContain(` ${hidden.digest} `);
    await expect(pull(strict, image)).rejects.toThrow(
      `pulling from host ${veneer.address} failed with status code [manifests 1]: 50`,
    );
  });

  test('falls back from a mirror that is dead itself, but by a strict file', async () => {
    const image = `${environment.registry}/${BOTH}`;
    await veneer.kill();
    expect(await pull(plain, image)).toContain(` ${hidden.digest} `);
    await expect(pull(strict, image)).rejects.toThrow(`${veneer.address}: connect: connection refused`);
  });

  async function placeHosts(content: string): Promise<string> {
    const folder = await mkdtemp(join(environment.folder, 'hosts-'));
    for (const host of ['docker.io', environment.registry]) {
      await mkdir(join(folder, host));
      await writeFile(join(folder, host, 'hosts.toml'), `${content}\n`);
    }
    return folder;
  }

  /** Into a namespace that has nothing; gives the line of the image. */
  async function pull(hosts: string, image: string, ...options: readonly string[]): Promise<string> {
    const namespace = `n${crypto.randomUUID().slice(0, 8)}`;
    const ctr = (...args: readonly string[]) => run('ctr', ['--address', socket, '--namespace', namespace, ...args]);
    await ctr('images', 'pull', '--hosts-dir', hosts, '--snapshotter', 'native', ...options, image);
    return ctr('images', 'list', `name==${image}`);
  }
});
