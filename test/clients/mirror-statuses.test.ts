// What makes a runtime fall back from a mirror: the table in docs/mirror.md, by a mirror that fails in each way.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { findMissing } from './support/clients.ts';
import { startContainerd, startDocker } from './support/daemons.ts';
import { makeMirrorFile } from './support/mirrored.ts';
import { type Running, run } from './support/process.ts';

const missing = findMissing(['dockerd', 'docker', 'containerd', 'ctr', 'podman']);

/** Nobody has it: what counts is who is asked for it. */
const IMAGE = 'library/nothing:1';
const FINAL = 'no such process';
const STATUSES = [400, 401, 403, 404, 405, 409, 410, 451, 500, 501, 502, 503, 504];

describe.skipIf(missing)(`fall-back${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let folder = '';
  let mirror: TestRegistry;
  /** The registry itself, to containerd and podman. */
  let origin: TestRegistry;
  const running: Running[] = [];
  const pulls: Record<string, () => Promise<string>> = {};

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-statuses-'));
    mirror = await startRegistry();
    origin = await startRegistry();
    pulls.docker = await prepareDocker();
    pulls.containerd = await prepareContainerd();
    pulls.podman = await preparePodman();
  }, 60_000);

  afterAll(async () => {
    for (const one of running.reverse()) await one.stop();
    await mirror?.close();
    await origin?.close();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  beforeEach(() => {
    mirror.requests.length = 0;
    origin.requests.length = 0;
  });

  describe.each(['docker', 'containerd', 'podman'])('%s', runtime => {
    test.each(STATUSES)('falls back from a mirror that answers %i to a tag', async status => {
      fail(status);
      expect(await hasFallenBack(runtime)).toBe(true);
    });

    test(`${runtime === 'docker' ? 'takes' : 'falls back from'} a 503 with the reason of strict${runtime === 'docker' ? ' as final' : ''}`, async () => {
      fail(503, FINAL);
      expect(await hasFallenBack(runtime)).toBe(runtime !== 'docker');
    });
  });

  function fail(status: number, reason?: string): void {
    mirror.intercept((request, response) => {
      if (!request.url?.includes('/manifests/')) return false;
      response.statusMessage = reason ?? '';
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify({ errors: [{ code: 'UNKNOWN', message: 'scripted' }] }));
      return true;
    });
  }

  async function hasFallenBack(runtime: string): Promise<boolean> {
    const said = await pulls[runtime]?.();
    expect(mirror.requests.some(({ url }) => url.includes('/manifests/'))).toBe(true);
    return origin.requests.length > 0 || said?.includes('registry-1.docker.io') === true;
  }

  async function prepareDocker() {
    const configFile = join(folder, 'daemon.json');
    await writeFile(configFile, await makeMirrorFile('docker', mirror.host));
    // The way to Docker Hub itself ends on this machine.
    const docker = await startDocker(folder, { configFile, env: { HTTPS_PROXY: 'http://127.0.0.1:1' } });
    running.push(docker);
    return () => failing('docker', ['-H', docker.host, 'pull', IMAGE]);
  }

  async function prepareContainerd() {
    const containerd = await startContainerd(folder);
    running.push(containerd);
    const hosts = join(folder, 'hosts');
    await mkdir(join(hosts, origin.host), { recursive: true });
    await writeFile(join(hosts, origin.host, 'hosts.toml'), await makeMirrorFile('containerd', mirror.host));
    const image = `${origin.host}/${IMAGE}`;
    return () => failing('ctr', ['--address', containerd.socket, 'images', 'pull', '--hosts-dir', hosts, image]);
  }

  async function preparePodman() {
    const file = join(folder, 'registries.conf');
    const content = await makeMirrorFile('podman', mirror.host, '--upstream', 'quay.io');
    const location = `location = "${origin.host}"\ninsecure = true`;
    await writeFile(file, content.replace('location = "quay.io"', location));
    const store = ['--root', join(folder, 'root'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs'];
    return () => failing('podman', [...store, 'pull', `quay.io/${IMAGE}`], { CONTAINERS_REGISTRIES_CONF: file });
  }

  async function failing(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    return run(command, args, { env }).catch(error => String(error));
  }
});
