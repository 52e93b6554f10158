// The daemons around Veneer, and Veneer itself, each with its own folder and port.
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { clientPath, searchPath } from './clients.ts';
import { checkUrl, findFreePort, type Killable, type Running, run, startProcess } from './process.ts';

export interface Server extends Running {
  /** host:port */
  readonly address: string;
}

/** Distribution with its store in `registry` below the folder, which is empty if it is not there. */
export async function startRegistry(folder: string, address?: string): Promise<Server> {
  address ??= `127.0.0.1:${await findFreePort()}`;
  const file = join(folder, 'registry.yml');
  const storage = { filesystem: { rootdirectory: join(folder, 'registry') }, delete: { enabled: true } };
  await writeFile(file, stringify({ version: 0.1, storage, http: { addr: address } }));
  const running = await startProcess(clientPath('registry'), ['serve', file], {
    env: { OTEL_TRACES_EXPORTER: 'none' },
    checkReady: () => checkUrl(`http://${address}/v2/`),
  });
  return { ...running, address };
}

/** BuildKit that pushes to the registry without TLS; `socket` is its address for buildctl. */
export async function startBuildkit(folder: string, registry: string): Promise<Killable & { readonly socket: string }> {
  const file = join(folder, 'buildkitd.toml');
  const socket = `unix://${join(folder, 'buildkitd.sock')}`;
  await writeFile(
    file,
    `root = "${join(folder, 'buildkit')}"
# Its default is one socket of the whole machine, which two that start at once both want.
[otel]
socketPath = "${join(folder, 'otel.sock')}"
[worker.containerd]
enabled = false
# A step that runs npm reaches its registry as this machine does.
[worker.oci]
networkMode = "host"
[registry."${registry}"]
http = true
`,
  );
  const running = await startProcess(clientPath('buildkitd'), ['--config', file, '--addr', socket], {
    checkReady: () => run(clientPath('buildctl'), ['--addr', socket, 'debug', 'workers']),
  });
  return { ...running, socket };
}

export interface DockerOptions {
  /** Its daemon.json. */
  readonly configFile?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The program. Default: dockerd. */
  readonly daemon?: string;
}

/** An engine of its own; `host` is its address for the docker client. */
export async function startDocker(
  folder: string,
  { configFile, env = {}, daemon = 'dockerd' }: DockerOptions = {},
): Promise<Running & { readonly host: string }> {
  const host = `unix://${join(folder, 'docker.sock')}`;
  const running = await startProcess(
    daemon,
    [
      ...['--data-root', join(folder, 'docker'), '--exec-root', join(folder, 'docker-exec'), '-H', host],
      ...['--pidfile', join(folder, 'docker.pid'), '--insecure-registry', '127.0.0.0/8'],
      // No container has a network here, and two engines must not quarrel about one bridge.
      ...['--bridge', 'none', '--iptables=false'],
      ...(configFile === undefined ? [] : ['--config-file', configFile]),
    ],
    { env, checkReady: () => run('docker', ['-H', host, 'version']) },
  );
  const stop = async () => {
    await running.stop();
    await unmountBelow(folder);
  };
  return { host, stop };
}

/** Unmounts what an engine, or a dead builder, leaves behind, such as the namespace of the host's network, so that the folder can go. */
export async function unmountBelow(folder: string): Promise<void> {
  const mounts = await readFile('/proc/self/mounts', 'utf8');
  const points = mounts.split('\n').map(line => line.split(' ')[1] ?? '');
  for (const point of points.filter(path => path.startsWith(`${folder}/`)).reverse()) await run('umount', [point]);
}

/** A containerd of its own; `socket` is its address for ctr, `content` the folder of its blobs. */
export async function startContainerd(
  folder: string,
  { daemon = 'containerd' }: { readonly daemon?: string } = {},
): Promise<Running & { readonly socket: string; readonly content: string }> {
  const root = join(folder, 'containerd');
  const socket = join(folder, 'containerd.sock');
  const file = join(folder, 'containerd.toml');
  await writeFile(
    file,
    `version = 2
root = "${root}"
state = "${join(folder, 'containerd-state')}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "${socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "${join(folder, 'containerd-opt')}"
# What one namespace has, another still has to pull.
[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "isolated"
`,
  );
  const running = await startProcess(daemon, ['--config', file], {
    checkReady: () => run('ctr', ['--address', socket, 'version']),
  });
  return { ...running, socket, content: join(root, 'io.containerd.content.v1.content') };
}

/** Veneer as its users start it, with the registry, if there is one, as an upstream; `settings` are further keys of its configuration. */
export async function startVeneer(
  folder: string,
  registry: string | undefined,
  settings: Readonly<Record<string, unknown>> = {},
): Promise<Server & Killable> {
  const address = String(settings.listen ?? `127.0.0.1:${await findFreePort()}`);
  const own = await mkdtemp(join(folder, 'veneer-'));
  const file = join(own, 'veneer.yaml');
  const dataDir = join(own, 'data');
  const upstreams = registry === undefined ? {} : upstreamsTo(registry);
  await writeFile(file, stringify({ listen: address, dataDir, upstreams, ...settings }));
  const running = await startProcess(process.execPath, ['src/main.ts', '--config', file], {
    env: { PATH: searchPath() },
    checkReady: () => checkUrl(`http://${address}/health/ready`),
  });
  return { ...running, address };
}

/** The upstreams of a configuration: the registry by its address, and as `lab`. */
export function upstreamsTo(registry: string): Readonly<Record<string, { readonly url: string }>> {
  const upstream = { url: `http://${registry}` };
  return { lab: upstream, [registry]: upstream };
}
