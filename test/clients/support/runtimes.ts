// The runtimes that have Veneer as a mirror, each by the file that `veneer mirror-config` makes, and each pulling into a store that is empty.
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { startContainerd, startDocker } from './daemons.ts';
import type { Environment } from './environment.ts';
import { makeMirrorFile } from './mirrored.ts';
import { run } from './process.ts';

interface RuntimeOptions {
  readonly environment: Environment;
  /** host:port of the Veneer. */
  readonly mirror: string;
  readonly isStrict: boolean;
  /** The registry of the images: Docker Hub, but to containerd, which has a mirror for any. */
  readonly registry: string;
  /** For the way to Docker Hub. */
  readonly env: Readonly<Record<string, string>>;
}

export interface Runtime {
  /** Into a store that has nothing. Gives what says which digest came, and rejects with what the runtime says. */
  pull(name: string): Promise<string>;
  /** Pulls the same way, looks at what came, and runs the command in it. */
  see(name: string, wanted: Wanted): Promise<Seen>;
}

interface Wanted {
  readonly platform: string;
  /** For the image's shell. */
  readonly command: string;
}

interface Seen {
  /** All that the runtime shows for the name: podman has that of the platform's image, too. */
  readonly digests: readonly string[];
  /** The digest of the config. */
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  /** By the command. */
  readonly printed: string;
}

export type RuntimeName = keyof typeof RUNTIMES;

export const RUNTIMES = {
  docker: startMirroredDocker,
  containerd: startMirroredContainerd,
  podman: startMirroredPodman,
} as const;

const Labels = z.record(z.string(), z.string());
const DockerImage = z.object({ Id: z.string(), Config: z.object({ Labels: Labels.nullish() }) });
const PodmanImages = z.tuple([
  z.object({ Id: z.string(), Labels: Labels.nullish(), RepoDigests: z.array(z.string()) }),
]);
const ContainerdContainer = z.object({ Labels: Labels.nullish() });

async function startMirroredDocker({ environment, mirror, env }: RuntimeOptions): Promise<Runtime> {
  const folder = await mkdtemp(join(environment.folder, 'engine-'));
  const configFile = join(folder, 'daemon.json');
  await writeFile(configFile, await makeMirrorFile('docker', mirror));
  const { host } = await environment.keep(startDocker(folder, { configFile, env }));
  // With a mirror that is dead it tries for more than a minute.
  const docker = (...args: readonly string[]) => run('docker', ['-H', host, ...args], { timeoutMs: 170_000 });
  const pull = async (...args: readonly string[]) => {
    await docker('image', 'prune', '--all', '--force');
    return docker('pull', ...args);
  };
  return {
    pull,
    async see(name, { platform, command }) {
      const [, digest = ''] = /^Digest: (\S+)$/m.exec(await pull('--platform', platform, name)) ?? [];
      const shown = await docker('image', 'inspect', '--format', '{{json .}}', name);
      const { Id: id, Config } = DockerImage.parse(JSON.parse(shown));
      const options = ['--rm', '--network', 'none', '--platform', platform];
      const printed = await docker('run', ...options, name, '/bin/sh', '-c', command);
      return { digests: [digest], id, labels: Config.Labels ?? {}, printed };
    },
  };
}

async function startMirroredContainerd({
  environment,
  mirror,
  isStrict,
  registry,
  env,
}: RuntimeOptions): Promise<Runtime> {
  const folder = await mkdtemp(join(environment.folder, 'containerd-'));
  const { socket } = await environment.keep(startContainerd(folder));
  const hosts = join(folder, 'hosts');
  await mkdir(join(hosts, registry), { recursive: true });
  const file = await makeMirrorFile('containerd', mirror, ...(isStrict ? ['--strict'] : []));
  await writeFile(join(hosts, registry, 'hosts.toml'), `${file}\n`);
  const snapshotter = ['--snapshotter', 'native'];
  /** With a namespace of its own. */
  const openStore = () => {
    const namespace = `n${crypto.randomUUID().slice(0, 8)}`;
    return (...args: readonly string[]) =>
      run('ctr', ['--address', socket, '--namespace', namespace, ...args], { env });
  };
  return {
    async pull(name) {
      const [ctr, image] = [openStore(), `${registry}/${name}`];
      await ctr('images', 'pull', '--hosts-dir', hosts, ...snapshotter, image);
      return ctr('images', 'list', `name==${image}`);
    },
    async see(name, { platform, command }) {
      const [ctr, image, ofPlatform] = [openStore(), `${registry}/${name}`, ['--platform', platform]];
      await ctr('images', 'pull', '--hosts-dir', hosts, ...snapshotter, ...ofPlatform, image);
      const [digest = ''] = /sha256:\w{64}(?= )/.exec(await ctr('images', 'list', `name==${image}`)) ?? [];
      const [, id = ''] = /gc\.ref\.content\.config=(\S+?)(?:,|$)/m.exec(await ctr('content', 'list')) ?? [];
      // ctr may leave out the last lines when it is slow to copy them.
      const all = `${command}\necho ${END}`;
      let printed = '';
      for (let attempt = 1; attempt <= 5 && !printed.endsWith(END); attempt += 1) {
        if (attempt > 1) await ctr('containers', 'delete', 'seen');
        printed = await ctr('run', ...snapshotter, ...ofPlatform, image, 'seen', '/bin/sh', '-c', all);
      }
      const { Labels } = ContainerdContainer.parse(JSON.parse(await ctr('containers', 'info', 'seen')));
      return { digests: [digest], id, labels: Labels ?? {}, printed: printed.slice(0, -END.length).trimEnd() };
    },
  };
}

const END = 'end of output';

/** What runs a container where neither limits may be raised nor cgroups are all of one version. */
const CAREFUL = [
  ...['--runtime', 'runc', '--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'],
  ...['--network', 'none', '--http-proxy=false'],
];

async function startMirroredPodman({ environment, mirror, isStrict, env }: RuntimeOptions): Promise<Runtime> {
  const file = join(await mkdtemp(join(environment.folder, 'podman-')), 'veneer.conf');
  await writeFile(file, await makeMirrorFile('podman', mirror, ...(isStrict ? ['--strict'] : [])));
  const openStore = async () => {
    // podman wants a short path.
    const own = await mkdtemp(join(environment.folder, 'p-'));
    const store = ['--root', join(own, 'root'), '--runroot', join(own, 'run'), '--storage-driver', 'vfs'];
    return (...args: readonly string[]) =>
      run('podman', [...store, ...args], { env: { ...env, CONTAINERS_REGISTRIES_CONF: file } });
  };
  return {
    async pull(name) {
      const podman = await openStore();
      const image = `docker.io/${name}`;
      await podman('pull', image);
      return podman('image', 'inspect', '--format', '{{.RepoDigests}}', image);
    },
    async see(name, { platform, command }) {
      const podman = await openStore();
      const image = `docker.io/${name}`;
      await podman('pull', '--platform', platform, image);
      const shown = await podman('image', 'inspect', image);
      const [{ Id, Labels, RepoDigests }] = PodmanImages.parse(JSON.parse(shown));
      const options = ['--rm', ...CAREFUL, '--platform', platform];
      const printed = await podman('run', ...options, image, '/bin/sh', '-c', command);
      const digests = RepoDigests.map(each => each.replace(/^.*@/, ''));
      return { digests, id: `sha256:${Id}`, labels: Labels ?? {}, printed };
    },
  };
}
