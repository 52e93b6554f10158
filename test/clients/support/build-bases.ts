// The images that builds begin from, by the names of their examples: made of busybox, since none can be pulled.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Environment } from './environment.ts';
import { buildBusybox, buildImage, PLATFORMS } from './image.ts';

/** All that busybox can be labelled as: an armhf one runs as every variant of arm that an emulator knows. */
const UBUNTU_PLATFORMS = [...PLATFORMS, 'linux/arm/v5', 'linux/arm/v6'];

/** What it is asked for is installed nowhere; it leaves behind what it was asked, and on which machine. */
const APK = `#!/bin/sh
echo "$*" >> /asked
uname -m >> /machine
`;

/** Pushes `library/ubuntu:latest` and `library/node:18-alpine`, which has an `apk`, to the environment's registry. */
export async function makeBuildBases({ folder, registry, buildkit, source }: Environment): Promise<void> {
  const ubuntu = ['--opt', `platform=${UBUNTU_PLATFORMS.join(',')}`];
  await buildBusybox(folder, buildkit, { image: `${registry}/library/ubuntu:latest`, options: ubuntu });
  const context = join(folder, 'node');
  await mkdir(context);
  await writeFile(join(context, 'apk'), APK);
  await writeFile(join(context, 'Dockerfile'), `FROM ${source}\nCOPY --chmod=755 apk /bin/apk\n`);
  const options = ['--opt', `platform=${PLATFORMS.join(',')}`];
  await buildImage({ buildkit, context, image: `${registry}/library/node:18-alpine`, options });
}

/** For the configuration: Docker's registry, which nobody can reach, is the environment's. */
export function hubIn(registry: string): Readonly<Record<string, { readonly url: string }>> {
  return { 'docker.io': { url: `http://${registry}` } };
}
