// The daemons around Veneer, and Veneer itself, each with its own folder and port.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { clientPath } from './clients.ts';
import { checkUrl, findFreePort, type Running, run, startProcess } from './process.ts';

export interface Server extends Running {
  /** host:port */
  readonly address: string;
}

/** Distribution with an empty store below the folder. */
export async function startRegistry(folder: string): Promise<Server> {
  const address = `127.0.0.1:${await findFreePort()}`;
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
export async function startBuildkit(folder: string, registry: string): Promise<Running & { readonly socket: string }> {
  const file = join(folder, 'buildkitd.toml');
  const socket = `unix://${join(folder, 'buildkitd.sock')}`;
  await writeFile(
    file,
    `root = "${join(folder, 'buildkit')}"\n[worker.containerd]\nenabled = false\n[registry."${registry}"]\nhttp = true\n`,
  );
  const running = await startProcess(clientPath('buildkitd'), ['--config', file, '--addr', socket], {
    checkReady: () => run(clientPath('buildctl'), ['--addr', socket, 'debug', 'workers']),
  });
  return { ...running, socket };
}

/** An engine of its own; `host` is its address for the docker client. */
export async function startDocker(folder: string): Promise<Running & { readonly host: string }> {
  const host = `unix://${join(folder, 'docker.sock')}`;
  const running = await startProcess(
    'dockerd',
    [
      ...['--data-root', join(folder, 'docker'), '--exec-root', join(folder, 'docker-exec'), '-H', host],
      ...['--pidfile', join(folder, 'docker.pid'), '--insecure-registry', '127.0.0.0/8'],
      // No container has a network here, and two engines must not quarrel about one bridge.
      ...['--bridge', 'none', '--iptables=false'],
    ],
    { checkReady: () => run('docker', ['-H', host, 'version']) },
  );
  return { ...running, host };
}

/** Veneer as its users start it, with the registry as the upstream `lab`. */
export async function startVeneer(folder: string, registry: string): Promise<Server> {
  const address = `127.0.0.1:${await findFreePort()}`;
  const file = join(folder, 'veneer.yaml');
  await mkdir(folder, { recursive: true });
  await writeFile(
    file,
    stringify({
      listen: address,
      dataDir: join(folder, 'veneer'),
      upstreams: { lab: { url: `http://${registry}` }, [registry]: { url: `http://${registry}` } },
    }),
  );
  const running = await startProcess(process.execPath, ['src/main.ts', '--config', file], {
    checkReady: () => checkUrl(`http://${address}/v2/`),
  });
  return { ...running, address };
}
