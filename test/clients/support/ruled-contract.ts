// What every runtime gets that has a Veneer with rules as its mirror of Docker Hub, by its own configuration file, and names images as
// ever.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { clientPath } from './clients.ts';
import type { Server } from './daemons.ts';
import { createEnvironment, type Environment } from './environment.ts';
import { type Hub, startHub } from './hub.ts';
import { PLATFORMS } from './image.ts';
import { run } from './process.ts';
import { COMMAND, printedOf, RULES, type Ruled, type RuledOptions, startRuled } from './ruled.ts';
import { RUNTIMES, type Runtime, type RuntimeName } from './runtimes.ts';

export interface RuledEnvironment {
  readonly environment: Environment;
  /** The digest of both images upstream. */
  readonly source: string;
  start(options?: StartOptions): Promise<Started>;
}

interface StartOptions extends Omit<RuledOptions, 'environment'> {
  /** For the runtime; gets host:port of the Veneer. */
  readonly makeEnv?: (mirror: string) => Promise<Readonly<Record<string, string>>>;
  /** What the runtime asks in its place. */
  readonly openWay?: (mirror: string) => Promise<Server>;
}

interface Started {
  /** Where the runtime goes beside Veneer. */
  readonly hub: Hub;
  readonly veneer: Ruled;
  readonly runtime: Runtime;
}

export const APP = 'library/app:1';
export const AMD64 = { platform: 'linux/amd64', command: COMMAND } as const;
/** Of the same bytes, and left alone. */
const PLAIN = 'library/plain:1';
const MACHINES = { 'linux/amd64': 'x86_64', 'linux/arm64': 'aarch64', 'linux/arm/v7': 'armv7l' } as const;
export const UNCHANGED = printedOf('x86_64');
export const IN_FORCE = '"msg":"the rules have changed"';

const Manifest = z.object({ config: z.object({ digest: z.string() }) });

/** `refused` is what the runtime says where a digest of the upstream's is refused, and nothing else may be asked. */
export function ruledContract(name: RuntimeName, { refused }: { readonly refused: RegExp }): () => RuledEnvironment {
  let environment: Environment;
  let source = '';
  let shared: Started;

  beforeAll(async () => {
    environment = await createEnvironment();
    for (const image of [APP, PLAIN]) await crane('copy', environment.source, `${environment.registry}/${image}`);
    source = await crane('digest', environment.source);
    shared = await start();
  }, 180_000);

  afterAll(() => environment?.close(), 60_000);

  async function start({ makeEnv, openWay, ...options }: StartOptions = {}): Promise<Started> {
    const hub = await environment.keep(startHub(environment.folder, environment.registry));
    const veneer = await startRuled({ environment, ...options });
    const { address: mirror } = openWay ? await environment.keep(openWay(veneer.address)) : veneer;
    const env = { ...hub.env, ...(await makeEnv?.(mirror)) };
    const { isStrict = false } = options;
    const runtime = await RUNTIMES[name]({ environment, mirror, isStrict, registry: 'docker.io', env });
    return { hub, veneer, runtime };
  }

  test.each(PLATFORMS)('runs an image of %s by its own name, with what the rules add', async platform => {
    const { veneer, runtime, hub } = shared;
    const { digest, sourceDigest, platforms } = await veneer.explain(APP);
    const { printed, labels, digests } = await runtime.see(APP, { platform, command: COMMAND });
    expect(printed).toBe(printedOf(MACHINES[platform], 'first'));
    const isArm = platform !== 'linux/amd64';
    expect([labels['com.example.audit'], labels.arm]).toEqual(['2026', isArm ? 'yes' : undefined]);
    expect(digests).toContain(digest);
    expect([digest, platforms.find(each => each.platform === platform)?.digest]).toEqual(
      expect.arrayContaining([...digests]),
    );
    expect([sourceDigest, digest === source, hub.paths]).toEqual([source, false, []]);
  });

  test.each(PLATFORMS)('has the very image of the upstream of %s, where no rule is for it', async platform => {
    const { veneer, runtime, hub } = shared;
    const { printed, labels, digests, id } = await runtime.see(PLAIN, { platform, command: COMMAND });
    expect([printed, labels.arm, hub.paths]).toEqual([printedOf(MACHINES[platform]), undefined, []]);
    expect(digests).toContain(source);
    const manifest = await crane('manifest', '--platform', platform, environment.source);
    expect(id).toBe(Manifest.parse(JSON.parse(manifest)).config.digest);
    expect(await veneer.explain(PLAIN)).toMatchObject({ outcome: 'unchanged', digest: source });
  });

  test('pulls by the digest of a tag for good: without a cache, after a restart, after a change of the layer, which only the tag follows', async () => {
    const { veneer, runtime, hub } = await start();
    const first = await veneer.explain(APP);
    const pinned = `library/app@${first.digest}`;
    const expectFirst = async (image: string) => {
      const { digests, printed } = await runtime.see(image, AMD64);
      expect([printed, digests.includes(String(first.digest))]).toEqual([printedOf('x86_64', 'first'), true]);
    };
    await expectFirst(APP);
    await expectFirst(pinned);
    await veneer.emptyCache();
    await expectFirst(pinned);
    await veneer.restart();
    await expectFirst(pinned);
    await veneer.logs(IN_FORCE, () => veneer.writeCertificate('second'));
    const second = await veneer.explain(APP);
    expect(second.digest).not.toBe(first.digest);
    const { digests, printed } = await runtime.see(APP, AMD64);
    expect([printed, digests.includes(String(second.digest))]).toEqual([printedOf('x86_64', 'second'), true]);
    await expectFirst(pinned);
    await veneer.emptyCache();
    await veneer.restart();
    await expectFirst(pinned);
    expect(hub.paths).toEqual([]);
  });

  test('has the very image of the upstream by its digest there', async () => {
    const { veneer, runtime, hub } = shared;
    const [amd64] = (await veneer.explain(APP)).platforms;
    for (const digest of [source, String(amd64?.sourceDigest)]) {
      const { digests, printed } = await runtime.see(`library/app@${digest}`, AMD64);
      expect([printed, digests.includes(digest)]).toEqual([UNCHANGED, true]);
    }
    expect(hub.paths).toEqual([]);
  });

  describe('where digests of the upstream are refused', () => {
    const rules = RULES.map(rule => ({ ...rule, pinned: rule.name === 'corporate-ca' ? 'refused' : 'untouched' }));

    test('pulls such an image from Docker Hub itself, and by its tag through the rules', async () => {
      const { veneer, runtime, hub } = await start({ rules });
      const { digests, printed } = await runtime.see(APP, AMD64);
      expect([printed, hub.paths]).toEqual([printedOf('x86_64', 'first'), []]);
      const { digest } = await veneer.explain(APP);
      expect(digests).toContain(digest);
      expect((await runtime.see(`library/app@${digest}`, AMD64)).printed).toBe(printed);
      expect(hub.paths).toEqual([]);
      const pinned = await runtime.see(`library/app@${source}`, AMD64);
      expect([pinned.printed, pinned.digests.includes(source)]).toEqual([UNCHANGED, true]);
      expect(hub.paths).not.toEqual([]);
    });

    test('fails where the upstream is strict, and by its tag pulls through the rules', async () => {
      const { veneer, runtime, hub } = await start({ rules, isStrict: true });
      const pinned = `library/app@${source}`;
      expect(await runtime.pull(pinned).catch(String)).toMatch(refused);
      await expect(veneer.explain(pinned)).rejects.toThrow(/a pull fails: .*corporate-ca/);
      expect((await runtime.see(APP, AMD64)).printed).toBe(printedOf('x86_64', 'first'));
      expect(hub.paths).toEqual([]);
    });
  });

  return () => ({ environment, source, start });
}

function crane(command: string, ...args: readonly string[]): Promise<string> {
  return run(clientPath('crane'), [command, '--insecure', ...args]);
}
