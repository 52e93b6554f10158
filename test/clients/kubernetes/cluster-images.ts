// The images of the cluster's pods, in the registry of an environment: a pause, and BuildKit with what its own images have, with and without root.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { clientPath } from '../support/clients.ts';
import type { Environment } from '../support/environment.ts';
import { buildImage } from '../support/image.ts';
import { run } from '../support/process.ts';

/** What is in BuildKit's images beside a shell, installed for the tests and of this machine. */
const OWN = ['buildkitd', 'buildctl', 'buildctl-daemonless.sh', 'rootlesskit'] as const;
const OF_MACHINE = ['runc', 'newuidmap', 'newgidmap', 'setcap'] as const;

const PAUSE = `ENTRYPOINT ["/bin/busybox", "sleep", "1000000"]
`;

/** Debian's newuidmap, as root that lacks the rights of the machine's, may do nothing: it gets the one right that it needs. */
const WITH_ROOT = `COPY root /
ENV PATH=/usr/bin:/bin
RUN mkdir -m 1777 /tmp && chmod u-s /usr/bin/new?idmap \\
  && setcap cap_setuid+ep /usr/bin/newuidmap && setcap cap_setgid+ep /usr/bin/newgidmap
ENTRYPOINT ["/usr/bin/buildkitd"]
`;

/** As the end of BuildKit's own Dockerfile has it. */
const WITHOUT_ROOT = `RUN echo root:x:0:0:root:/root:/bin/sh > /etc/passwd && echo user:x:1000:1000::/home/user:/bin/sh >> /etc/passwd \
  && mkdir -p /run/user/1000 /home/user/.local/tmp /home/user/.local/share/buildkit \
  && chown -R 1000:1000 /run/user/1000 /home/user \
  && echo user:100000:65536 > /etc/subuid && cp /etc/subuid /etc/subgid
USER 1000:1000
ENV HOME=/home/user USER=user XDG_RUNTIME_DIR=/run/user/1000 TMPDIR=/home/user/.local/tmp
ENTRYPOINT ["rootlesskit", "buildkitd"]
`;

/** `buildkit` and `rootless` have the tags of BuildKit's own, by which a node may take them for those. */
export async function pushClusterImages({ buildkit, registry, source }: Environment, folder: string) {
  const images = {
    pause: `${registry}/cluster/pause:1`,
    buildkit: `${registry}/moby/buildkit:v0.34.2`,
    rootless: `${registry}/moby/buildkit:v0.34.2-rootless`,
  };
  const context = join(folder, 'images');
  await copyCommands(join(context, 'root'));
  const build = async (image: string, base: string, rest: string) => {
    await writeFile(join(context, 'Dockerfile'), `FROM ${base}\n${rest}`);
    await buildImage({ buildkit, context, image, compression: 'uncompressed' });
  };
  await build(images.pause, source, PAUSE);
  await build(images.buildkit, source, WITH_ROOT);
  await build(images.rootless, images.buildkit, WITHOUT_ROOT);
  return images;
}

/** With the libraries of this machine that they need. */
async function copyCommands(root: string): Promise<void> {
  await mkdir(join(root, 'usr/bin'), { recursive: true });
  await mkdir(join(root, 'etc'));
  const found = await Promise.all(OF_MACHINE.map(name => run('which', [name])));
  for (const path of [...OWN.map(clientPath), ...found]) await run('cp', [path, join(root, 'usr/bin')]);
  const libraries = (await Promise.all(found.map(path => run('ldd', [path])))).flatMap(
    text => text.match(/\/\S+/g) ?? [],
  );
  for (const library of new Set(libraries)) await run('install', ['-D', '-m', '755', library, join(root, library)]);
}
