// Real engines run an image whose directories are links, with a layer on top that has files below these.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packTar, type TarFile } from '../support/build-images.ts';
import { busyboxPath, findMissing } from './support/clients.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { startHub } from './support/hub.ts';
import { buildImage } from './support/image.ts';
import { type Ruled, startRuled } from './support/ruled.ts';
import { RUNTIMES, type RuntimeName } from './support/runtimes.ts';

const missing = findMissing([
  ...ENVIRONMENT_COMMANDS,
  ...['dockerd', 'docker', 'openssl', 'containerd', 'ctr', 'containerd-shim-runc-v2', 'podman', 'conmon'],
]);

const IMAGE = 'library/links:1';
/** Of amd64 the directories are links, as distributions have them; of arm64 they are none. */
const ROOTS: Readonly<Record<string, readonly TarFile[]>> = {
  amd64: [
    ...['usr/', 'usr/bin/', 'usr/lib/', 'var/'].map((name): TarFile => ({ name, type: 'directory', mode: 0o755 })),
    { name: 'data/', type: 'directory', mode: 0o1777 },
    { name: 'bin', type: 'symlink', linkname: 'usr/bin' },
    { name: 'lib', type: 'symlink', linkname: 'usr/lib' },
    { name: 'var/opt', type: 'symlink', linkname: '/data' },
  ],
  arm64: ['bin/', 'lib/', 'var/', 'var/opt/'].map(name => ({ name, type: 'directory', mode: 0o755 })),
};
const DOCKERFILE = `FROM scratch
ARG TARGETARCH
ADD root-\${TARGETARCH}.tar /
COPY busybox-\${TARGETARCH} /bin/busybox
COPY busybox-\${TARGETARCH} /bin/sh
ENV PATH=/bin
CMD ["/bin/sh"]
`;
const COMMAND = `/bin/tool
busybox cat /lib/x.so /var/opt/x
for link in /bin /lib /var/opt; do busybox readlink $link; done
busybox stat -c '%a' /var/opt/`;
const PRINTED = {
  'linux/amd64': 'a tool\nof lib\nof opt\nusr/bin\nusr/lib\n/data\n1777',
  'linux/arm64': 'a tool\nof lib\nof opt\n755',
} as const;

describe.skipIf(missing)(`links of images${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let veneer: Ruled;

  beforeAll(async () => {
    environment = await createEnvironment();
    const context = join(environment.folder, 'links');
    await mkdir(context);
    await writeFile(join(context, 'Dockerfile'), DOCKERFILE);
    for (const [architecture, files] of Object.entries(ROOTS)) {
      await writeFile(join(context, `root-${architecture}.tar`), await packTar(files));
    }
    for (const architecture of ['amd64', 'arm64'] as const) {
      await copyFile(busyboxPath(architecture), join(context, `busybox-${architecture}`));
    }
    const options = ['--opt', 'platform=linux/amd64,linux/arm64'];
    await buildImage({ buildkit: environment.buildkit, context, image: `${environment.registry}/${IMAGE}`, options });
    const directory = join(environment.folder, 'tools');
    for (const name of ['bin', 'lib', 'var/opt']) await mkdir(join(directory, name), { recursive: true });
    await writeFile(join(directory, 'bin/tool'), '#!/bin/sh\necho a tool\n', { mode: 0o755 });
    await writeFile(join(directory, 'lib/x.so'), 'of lib\n');
    await writeFile(join(directory, 'var/opt/x'), 'of opt\n');
    veneer = await startRuled({
      environment,
      rules: [{ name: 'tools', match: { image: '**' }, layers: [{ directory }] }],
    });
  }, 240_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(['docker', 'containerd', 'podman'] as const)('%s runs the shell, and what was added', async name => {
    const runtime = await start(name);
    for (const platform of ['linux/amd64', 'linux/arm64'] as const) {
      const { printed, digests } = await runtime.see(IMAGE, { platform, command: COMMAND });
      expect(printed).toBe(PRINTED[platform]);
      expect(digests).toContain((await veneer.explain(IMAGE)).digest);
    }
  });

  async function start(name: RuntimeName) {
    const hub = await environment.keep(startHub(environment.folder, environment.registry));
    return RUNTIMES[name]({
      environment,
      mirror: veneer.address,
      isStrict: false,
      registry: 'docker.io',
      env: hub.env,
    });
  }
});
