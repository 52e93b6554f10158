// The base image: busybox for three platforms, made by BuildKit with provenance attestations.
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ARCHITECTURES, busyboxPath, clientPath } from './clients.ts';
import { run } from './process.ts';

export const PLATFORMS = ['linux/amd64', 'linux/arm64', 'linux/arm/v7'] as const;

const DOCKERFILE = `FROM scratch
ARG TARGETARCH
COPY busybox-\${TARGETARCH} /bin/busybox
COPY busybox-\${TARGETARCH} /bin/sh
ENV PATH=/bin BASE=1
CMD ["/bin/sh"]
`;

/** Builds and pushes the image; `name` is its whole reference. */
export async function makeBusyboxImage(folder: string, name: string, socket: string): Promise<void> {
  const context = join(folder, 'context');
  await mkdir(context, { recursive: true });
  await writeFile(join(context, 'Dockerfile'), DOCKERFILE);
  for (const architecture of ARCHITECTURES) {
    await copyFile(busyboxPath(architecture), join(context, `busybox-${architecture}`));
  }
  await run(clientPath('buildctl'), [
    ...['--addr', socket, 'build', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
    ...['--opt', `platform=${PLATFORMS.join(',')}`, '--opt', 'attest:provenance=mode=max'],
    ...['--output', `type=image,name=${name},push=true`],
  ]);
}
