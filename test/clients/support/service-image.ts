// The image of Veneer itself, built from the Dockerfile on a base that is made of this machine's parts: none can be pulled.
import { existsSync, globSync } from 'node:fs';
import { copyFile, cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { busyboxPath } from './clients.ts';
import type { Environment } from './environment.ts';
import { buildImage } from './image.ts';
import { run } from './process.ts';

const BASE_DOCKERFILE = `FROM scratch
COPY rootfs /
RUN ["/bin/busybox", "--install", "-s"]
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
`;
const NPM_CLI = '../lib/node_modules/npm/bin/npm-cli.js';

export interface ServiceImage {
  readonly base: string;
  readonly image: string;
}

/** Builds and pushes both images; they are for this machine's platform. */
export async function makeServiceImage({ folder, registry, buildkit }: Environment): Promise<ServiceImage> {
  const [base, image] = [`${registry}/library/node:26`, `${registry}/library/veneer:1`];
  const context = join(folder, 'base');
  await makeRootfs(join(context, 'rootfs'));
  await writeFile(join(context, 'Dockerfile'), BASE_DOCKERFILE);
  await buildImage({ buildkit, context, image: base, compression: 'uncompressed' });
  const options = ['--opt', `build-arg:BASE=${base}`, ...(await makeSecrets(folder))];
  await buildImage({ buildkit, context: process.cwd(), image, compression: 'uncompressed', options });
  return { base, image };
}

/** What a slim Node image has: a shell, Node with its libraries and those of the bundler, and npm. */
async function makeRootfs(rootfs: string): Promise<void> {
  for (const directory of ['bin', 'sbin', 'usr/bin', 'usr/sbin', 'usr/local/bin', 'etc', 'root', 'tmp']) {
    await mkdir(join(rootfs, directory), { recursive: true });
  }
  await writeFile(join(rootfs, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  await copyFile(busyboxPath(process.arch === 'x64' ? 'amd64' : 'arm64'), join(rootfs, 'bin/busybox'));
  await copyFile(process.execPath, join(rootfs, 'usr/local/bin/node'));
  for (const binary of [process.execPath, ...globSync('node_modules/@rolldown/binding-*/*.node')]) {
    for (const library of await listLibraries(binary)) {
      await mkdir(join(rootfs, dirname(library)), { recursive: true });
      await copyFile(library, join(rootfs, library));
    }
  }
  const npm = join(await run('npm', ['root', '--global']), 'npm');
  await cp(npm, join(rootfs, 'usr/local/lib/node_modules/npm'), { recursive: true, verbatimSymlinks: true });
  await symlink(NPM_CLI, join(rootfs, 'usr/local/bin/npm'));
}

async function listLibraries(binary: string): Promise<readonly string[]> {
  const output = await run('ldd', [binary]);
  return [...output.matchAll(/(\/\S+) \(0x/g)].flatMap(([, path]) => (path ? [path] : []));
}

/** npm's settings of this machine as secrets of the build: the image must not know them. */
async function makeSecrets(folder: string): Promise<readonly string[]> {
  const settings = await Promise.all(
    ['userconfig', 'registry', 'cafile'].map(key => run('npm', ['config', 'get', key])),
  );
  const [userconfig = '', registry = '', cafile = ''] = settings;
  const ca = cafile === 'null' ? process.env.NODE_EXTRA_CA_CERTS : cafile;
  const npmrc = join(folder, 'npmrc');
  const own = existsSync(userconfig) ? await readFile(userconfig, 'utf8') : '';
  const lines = [own, `registry=${registry}`, ...(ca ? ['cafile=/run/secrets/ca'] : [])];
  await writeFile(npmrc, `${lines.join('\n')}\n`, { mode: 0o600 });
  return ['--secret', `id=npmrc,src=${npmrc}`, ...(ca ? ['--secret', `id=ca,src=${ca}`] : [])];
}
