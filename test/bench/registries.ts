// The servers of a benchmark, each with its configuration and data in a folder of its own; what is in it already is used again.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Figures } from './comparison.ts';
import { findProgram, type Server, startServer } from './processes.ts';

export interface PeerOptions {
  readonly directory: string;
  /** The host:port of the registry that this one is a pull-through proxy of. */
  readonly proxyOf?: string;
}

export async function startPeer({ directory, proxyOf }: PeerOptions): Promise<Server> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, 'registry.yaml');
  const config = {
    version: 0.1,
    log: { level: 'info', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: join(directory, 'data') } },
    http: { addr: '127.0.0.1:0' },
    ...(proxyOf && { proxy: { remoteurl: `http://${proxyOf}` } }),
  };
  await writeFile(path, JSON.stringify(config));
  const env = { OTEL_TRACES_EXPORTER: 'none' };
  return startServer({ file: findProgram('registry'), args: ['serve', path], env });
}

/** Two pull-through proxies of one registry. */
export type Proxies = Readonly<Record<keyof Figures, Server>>;

export async function startProxies(directory: string, { address }: Server): Promise<Proxies> {
  return {
    veneer: await startVeneer({ directory: join(directory, 'veneer'), upstream: address }),
    peer: await startPeer({ directory: join(directory, 'peer'), proxyOf: address }),
  };
}

export async function stopProxies({ veneer, peer }: Proxies): Promise<void> {
  await Promise.all([veneer.stop(), peer.stop()]);
}

/** Veneer, with the registry at `upstream` as `lab`. */
async function startVeneer({ directory, upstream }: { directory: string; upstream: string }): Promise<Server> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, 'veneer.yaml');
  const config = {
    listen: '127.0.0.1:0',
    dataDir: join(directory, 'data'),
    log: { level: 'info', format: 'json' },
    upstreams: { lab: { url: `http://${upstream}` } },
  };
  await writeFile(path, JSON.stringify(config));
  const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
  const args = [main, '--config', path, '--listen', config.listen, '--data-dir', config.dataDir];
  const env = { DOCKER_CONFIG: directory, VENEER_LOG: 'info' };
  return startServer({ file: process.execPath, args, env });
}
