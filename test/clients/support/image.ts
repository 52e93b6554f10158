// Images that BuildKit makes for the clients, above all the source: busybox for three platforms, with provenance.
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

export interface ImageBuild {
  /** The address of BuildKit for buildctl. */
  readonly buildkit: string;
  /** A folder with a Dockerfile. */
  readonly context: string;
  /** The whole reference that is pushed. */
  readonly image: string;
  /** `uncompressed` saves the time to pack large layers. */
  readonly compression?: 'gzip' | 'uncompressed';
  /** Further arguments of `buildctl build`. */
  readonly options?: readonly string[];
  /** Of buildctl, which gives BuildKit the credentials that it finds by it. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Builds an image and pushes it. */
export async function buildImage({
  buildkit,
  context,
  image,
  compression = 'gzip',
  options = [],
  env = {},
}: ImageBuild): Promise<void> {
  const args = [
    ...['--addr', buildkit, 'build', '--frontend', 'dockerfile.v0', ...options],
    ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
    ...['--output', `type=image,name=${image},push=true,compression=${compression}`],
  ];
  await run(clientPath('buildctl'), args, { env, timeoutMs: 400_000 });
}

/** What the source image is made of, below the folder. */
export async function makeBusyboxContext(folder: string): Promise<void> {
  const context = busyboxContext(folder);
  await mkdir(context, { recursive: true });
  await writeFile(join(context, 'Dockerfile'), DOCKERFILE);
  for (const architecture of ARCHITECTURES) {
    await copyFile(busyboxPath(architecture), join(context, `busybox-${architecture}`));
  }
}

/** Builds and pushes what was made ready by makeBusyboxContext: without attestations, unless the options ask for them. */
export async function buildBusybox(
  folder: string,
  buildkit: string,
  { options = [], ...build }: Pick<ImageBuild, 'image' | 'options' | 'env'>,
): Promise<void> {
  const platforms = ['--opt', `platform=${PLATFORMS.join(',')}`];
  await buildImage({ ...build, buildkit, context: busyboxContext(folder), options: [...platforms, ...options] });
}

function busyboxContext(folder: string): string {
  return join(folder, 'busybox');
}
