// The same Containerfiles built by BuildKit and in the process: what an engine sees of both is equal on every platform.
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEmbeddedBackend } from '../../src/builds/backends/embedded/backend.ts';
import { createOrder } from '../support/build-order.ts';
import { type FlatImage, flattenImages } from '../support/flat-image.ts';
import { checkImage } from '../support/oracle.ts';
import { findMissing } from './support/clients.ts';
import { type ContextEntry, embeddedCases } from './support/embedded-cases.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { buildImage, PLATFORMS } from './support/image.ts';
import { createRegistryImages } from './support/registry-images.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);

/** A base with all that a COPY can meet: links, modes, owners, names of users, and files that a layer took away. */
const BASE = `FROM $BUSYBOX
RUN /bin/busybox mkdir -p /etc /usr/bin /usr/lib /data/sub /gone /opaque/old && /bin/busybox ln -s usr/lib /lib && /bin/busybox ln -s /data/sub /data/link
RUN /bin/busybox printf 'root:x:0:0::/:/bin/sh\\nann:x:1000:1001::/:/bin/sh\\n' > /etc/passwd && /bin/busybox printf 'root:x:0:\\nstaff:x:50:ann\\n' > /etc/group
RUN /bin/busybox echo one > /data/one && /bin/busybox ln /data/one /data/hard && /bin/busybox chmod 4750 /data/one && /bin/busybox chown 7:8 /data/sub && /bin/busybox chmod 1777 /opaque
RUN /bin/busybox rm -r /gone /opaque/old && /bin/busybox mkdir /opaque/new && /bin/busybox echo two > /data/sub/two
ENV A=base B=\${A}
WORKDIR /data
LABEL of=base
`;

describe.skipIf(missing !== undefined)(`the embedded builder${missing ? ` (${missing})` : ''}`, () => {
  let environment: Environment;
  let names: Readonly<Record<string, string>>;
  const { images, openDestination, readRoot, read } = createRegistryImages();
  let count = 0;

  beforeAll(async () => {
    environment = await createEnvironment();
    const base = `${environment.registry}/library/base:1`;
    const triggers = `${environment.registry}/library/triggers:1`;
    names = { $BUSYBOX: environment.source, $BASE: base, $TRIGGERS: triggers };
    await buildWithBuildkit({ name: 'base', containerFile: BASE, context: {} }, base);
    const onbuild = 'FROM $BASE\nONBUILD ENV T=1\nONBUILD COPY a /from-trigger/\nONBUILD WORKDIR /trig\n';
    await buildWithBuildkit({ name: 'triggers', containerFile: onbuild, context: {} }, triggers);
  }, 240_000);

  afterAll(() => environment?.close());

  test.for(embeddedCases)('builds the same as BuildKit: $name', { timeout: 120_000 }, async one => {
    count += 1;
    const [theirs, ours] = [
      `${environment.registry}/buildkit/c${count}:1`,
      `${environment.registry}/embedded/c${count}:1`,
    ];
    await buildWithBuildkit(one, theirs);
    await buildEmbedded(one, ours);
    const [wanted, found] = [await flatten(theirs), await flatten(ours)];
    expect(found.map(({ platform }) => platform)).toEqual(PLATFORMS);
    for (const [i, image] of found.entries()) {
      expect(image.config).toEqual(wanted[i]?.config);
      expect(image.files).toEqual(wanted[i]?.files);
      expect(image.history).toEqual(wanted[i]?.history);
    }
  });

  interface Case {
    readonly name: string;
    readonly containerFile: string;
    readonly context: Readonly<Record<string, ContextEntry>>;
    readonly args?: Readonly<Record<string, string>>;
    readonly stage?: string;
  }

  function withNames(text: string): string {
    return text.replaceAll(/\$(?:BUSYBOX|BASE|TRIGGERS)\b/g, name => names[name] ?? name);
  }

  async function buildWithBuildkit({ containerFile, context, args = {}, stage }: Case, image: string): Promise<void> {
    const folder = join(environment.folder, `buildkit-${image.replaceAll(/\W/g, '-')}`);
    await writeContext(folder, { ...context, Dockerfile: withNames(containerFile) });
    const settings = Object.entries({ platform: PLATFORMS.join(','), ...(stage && { target: stage }) });
    const given = Object.entries(args).map(([name, value]) => [`build-arg:${name}`, value] as const);
    const options = [...settings, ...given].flatMap(([name, value]) => ['--opt', `${name}=${value}`]);
    await buildImage({ buildkit: environment.buildkit, context: folder, image, options });
  }

  async function buildEmbedded({ containerFile, context, args = {}, stage }: Case, image: string): Promise<void> {
    const spec = { args, ...(stage && { stage }) };
    const order = await createOrder(environment.folder, {
      containerFile: withNames(containerFile),
      image,
      platforms: PLATFORMS,
      spec,
    });
    // BuildKit finds its own file in the context.
    await writeContext(join(order.directory, 'context'), { ...context, Dockerfile: withNames(containerFile) });
    const backend = createEmbeddedBackend({
      images,
      openDestination,
      buildPlatform: { os: 'linux', architecture: 'amd64' },
    });
    expect(backend.findUnsupportedReason(order.spec)).toBeUndefined();
    const { digest } = await backend.build(order, { signal: AbortSignal.timeout(100_000), report: () => {} });
    expect((await readRoot(image)).digest).toBe(digest);
  }

  async function flatten(image: string): Promise<readonly FlatImage[]> {
    const root = await readRoot(image);
    const readOf = (descriptor: Parameters<typeof read>[1]) => read(image, descriptor);
    await checkImage(root, readOf);
    return flattenImages(root, readOf);
  }
});

async function writeContext(folder: string, entries: Readonly<Record<string, ContextEntry>>): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, entry] of Object.entries(entries)) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    if (typeof entry === 'string') await writeFile(path, entry, { mode: 0o644 });
    else if ('link' in entry) await symlink(entry.link, path);
    else if ('directory' in entry) {
      await mkdir(path, { recursive: true });
      await chmod(path, entry.directory);
    } else {
      await writeFile(path, entry.content);
      await chmod(path, entry.mode);
    }
  }
}
