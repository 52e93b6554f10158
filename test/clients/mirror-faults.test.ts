// Real runtimes with Veneer as their mirror, each by its own configuration file, while the upstream or Veneer itself breaks.
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { busyboxPath, clientPath, findMissing } from './support/clients.ts';
import { type Server, startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { type Hub, startHub } from './support/hub.ts';
import { buildImage } from './support/image.ts';
import { type Killable, run, waitUntil } from './support/process.ts';
import { type RoughWay, startRoughWay } from './support/rough-way.ts';
import { RUNTIMES, type Runtime } from './support/runtimes.ts';

const MIB = 1024 * 1024;
const LARGE = 'library/large:1';
const LARGE_BYTES = 24 * MIB;
/** What docker says when it has gone to Docker Hub itself. */
const HUB = 'registry-1.docker.io';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker', 'containerd', 'ctr', 'podman', 'openssl']);

describe.skipIf(missing)(`faults${missing ? ` (${missing})` : ''}`, { timeout: 180_000 }, () => {
  let environment: Environment;
  let digest = '';
  let layer: { readonly digest: string; readonly size: number };

  beforeAll(async () => {
    environment = await createEnvironment();
    ({ digest, layer } = await makeLargeImage(environment));
  }, 180_000);

  afterAll(() => environment?.close(), 60_000);

  describe.each(['docker', 'containerd', 'podman'] as const)('%s', name => {
    test('pulls again what is kept while the upstream is dead, though its tag is not fresh any more', async () => {
      const { way, runtime, asked } = await start(name);
      expect(await runtime.pull(LARGE)).toContain(digest);
      await way.stop();
      expect(await runtime.pull(LARGE)).toContain(digest);
      expect(asked()).toBe(0);
    });

    test('pulls a layer that the upstream cuts three times: Veneer continues by Range where what it received ends', async () => {
      const { way, runtime, asked } = await start(name);
      way.cut(layer.digest, 3 * MIB, 5 * MIB, 7 * MIB);
      expect(await runtime.pull(LARGE)).toContain(digest);
      expect(asked()).toBe(0);
      expect(way.transfers).toHaveLength(4);
      let part = { from: 0, sent: 0 };
      for (const { range, sent } of way.transfers) {
        const from = Number(range?.match(/^bytes=(\d+)-/)?.[1] ?? 0);
        expect(range).toBe(from === 0 ? undefined : `bytes=${from}-${layer.size - 1}`);
        // What is on its way when a connection breaks may be lost with it.
        expect(from).toBeLessThanOrEqual(part.from + part.sent);
        if (part.sent > 0) expect(from).toBeGreaterThan(part.from);
        part = { from, sent };
      }
      expect(part.from + part.sent).toBe(layer.size);
    });
  });

  // What a Veneer that is dead cannot hold is held by a firewall, which is what `strict` asks of an operator for dockerd.
  test.concurrent.each<[string, boolean, boolean, string]>([
    ['goes on with the registry itself, after a minute', false, true, 'Downloaded newer image'],
    [
      'goes on with the registry itself from a strict mirror, too, which cannot hold it any more',
      true,
      true,
      'Downloaded',
    ],
    ['fails with a strict mirror, where a firewall keeps it from the registry itself', true, false, HUB],
  ])('docker %s, when Veneer is killed in the middle of a layer', async (_, isStrict, isHubThere, said) => {
    const { hub, asked, pulling } = await killInLayer('docker', isStrict, isHubThere ? undefined : stopHub);
    expect(await pulling).toContain(said);
    if (isHubThere) expect([asked() > 0, hub.paths.some(path => path.includes(layer.digest))]).toEqual([true, true]);
  });

  test.concurrent('docker continues through Veneer, when that is killed in the middle of a layer and started again', async () => {
    const { way, asked, pulling, restart } = await killInLayer('docker', true);
    way.cut(layer.digest);
    await restart();
    expect(await pulling).toContain(digest);
    expect(asked()).toBe(0);
  });

  test('containerd continues with the registry itself at once, by Range, when Veneer is killed in the middle of a layer', async () => {
    const { itself, pulling } = await killInLayer('containerd', false);
    expect(await pulling).toContain(digest);
    expect(itself.transfers).toEqual([{ range: expect.stringMatching(/^bytes=[1-9]\d+-/), sent: expect.any(Number) }]);
    expect(itself.transfers[0]?.sent).toBeLessThan(layer.size);
  });

  test('containerd fails by a strict file, when Veneer is killed in the middle of a layer', async () => {
    const { asked, pulling } = await killInLayer('containerd', true);
    expect(await pulling).toMatch(/unexpected EOF|connection refused/);
    expect(asked()).toBe(0);
  });

  test.each([false, true])(
    'podman fails when Veneer is killed in the middle of a layer, and its next pull goes to the registry itself, but by a strict file (%s)',
    async isStrict => {
      const { runtime, asked, pulling } = await killInLayer('podman', isStrict);
      expect(await pulling).toMatch(/unexpected EOF|connection reset/);
      expect(asked()).toBe(0);
      const next = await runtime.pull(LARGE).catch(String);
      expect(next).toContain(isStrict ? 'connection refused' : digest);
      expect(asked() === 0).toBe(isStrict);
    },
  );

  interface Started {
    /** Between Veneer and the registry. */
    readonly way: RoughWay;
    readonly hub: Hub;
    /** The way beside Veneer, for what is not of Docker Hub. */
    readonly itself: RoughWay;
    readonly veneer: Server & Killable;
    readonly runtime: Runtime;
    /** How often anybody was asked beside Veneer. */
    readonly asked: () => number;
    /** Resolves when so much of a layer has come to Veneer. */
    arrived(bytes: number): Promise<void>;
    /** At the same address, over the same data. */
    restart(): Promise<unknown>;
  }

  async function start(name: keyof typeof RUNTIMES, isStrict = false): Promise<Started> {
    const way = await environment.keep(startRoughWay(environment.registry));
    const hub = await environment.keep(startHub(environment.folder, environment.registry));
    const itself = await environment.keep(startRoughWay(environment.registry));
    itself.cut(layer.digest);
    const upstream = { url: `http://${way.address}`, strict: isStrict };
    const upstreams = { 'docker.io': upstream, [itself.address]: upstream };
    const settings = {
      upstreams,
      dataDir: await mkdtemp(join(environment.folder, 'data-')),
      cache: { tagFreshness: '0s' },
    };
    const veneer = await environment.keep(startVeneer(environment.folder, undefined, settings));
    const { address: mirror } = veneer;
    const runtime = await RUNTIMES[name]({ environment, mirror, isStrict, registry: itself.address, env: hub.env });
    return {
      ...{ way, hub, itself, veneer, runtime },
      asked: () => hub.paths.length + itself.paths.length,
      arrived: bytes =>
        waitUntil(async () => expect(await measureIngest(settings.dataDir)).toBeGreaterThanOrEqual(bytes)),
      restart: () => environment.keep(startVeneer(environment.folder, undefined, { ...settings, listen: mirror })),
    };
  }

  /** Half of the layer has come when Veneer dies; `pulling` resolves with what the runtime says, well or ill. */
  async function killInLayer(
    name: keyof typeof RUNTIMES,
    isStrict: boolean,
    prepare: (started: Started) => Promise<void> = async () => {},
  ) {
    const started = await start(name, isStrict);
    await prepare(started);
    started.way.hold(layer.digest, LARGE_BYTES / 2);
    const pulling = started.runtime.pull(LARGE).catch(String);
    await started.arrived(LARGE_BYTES / 2);
    await started.veneer.kill();
    return { ...started, pulling };
  }
});

async function stopHub({ hub }: { readonly hub: Hub }): Promise<void> {
  await hub.stop();
}

const Manifest = z.object({ layers: z.array(z.object({ digest: z.string(), size: z.number() })) });

/** Of one platform, with one large layer that does not compress. */
async function makeLargeImage({ folder, registry, buildkit }: Environment) {
  const context = join(folder, 'large');
  await mkdir(context);
  await copyFile(busyboxPath('amd64'), join(context, 'sh'));
  await writeFile(join(context, 'large'), randomBytes(LARGE_BYTES));
  await writeFile(join(context, 'Dockerfile'), 'FROM scratch\nCOPY sh /bin/sh\nCOPY large /\nCMD ["/bin/sh"]\n');
  const image = `${registry}/${LARGE}`;
  const options = ['--opt', 'platform=linux/amd64'];
  await buildImage({ buildkit, context, image, compression: 'uncompressed', options });
  const crane = (command: string) => run(clientPath('crane'), [command, '--insecure', image]);
  const { layers } = Manifest.parse(JSON.parse(await crane('manifest')));
  const layer = layers.find(({ size }) => size > LARGE_BYTES);
  if (!layer) throw new Error('no large layer');
  return { layer, digest: await crane('digest') };
}

async function measureIngest(dataDir: string): Promise<number> {
  const folder = join(dataDir, 'content', 'ingest');
  const sizes = await Promise.all((await readdir(folder)).map(async name => (await stat(join(folder, name))).size));
  return Math.max(0, ...sizes);
}
