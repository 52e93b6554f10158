// The servers of a benchmark, each with its configuration and data in a folder of its own; what is in it already is used again.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Side } from './comparison.ts';
import { findFreePort, findProgram, type Server, startServer } from './processes.ts';

/** Names of files in the directory of a side. */
export const CONFIGS = { veneer: 'veneer.yaml', peer: 'registry.yaml' } as const;

/** As it is deployed: `npm run bench` builds it. */
export const VENEER = fileURLToPath(new URL('../../dist/veneer.mjs', import.meta.url));

export interface PeerOptions {
  readonly directory: string;
  /** The host:port of the registry that this one is a pull-through proxy of. */
  readonly proxyOf?: string;
}

export async function startPeer({ directory, proxyOf }: PeerOptions): Promise<Server> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, CONFIGS.peer);
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

/** Veneer and the peer, for the same work. */
export type Pair = Readonly<Record<Side, Server>>;

/** Two pull-through proxies of one registry. */
export async function startProxies(directory: string, { address }: Server): Promise<Pair> {
  const { veneer, peer } = directoriesIn(directory);
  return {
    veneer: await startVeneer({ directory: veneer, upstream: address }),
    peer: await startPeer({ directory: peer, proxyOf: address }),
  };
}

/** Veneer, with a rule for each image of a registry: a variable, a label, and a layer of a directory. */
export async function startRuled(directory: string, { address }: Server): Promise<Server> {
  const layer = join(directory, 'layer', 'etc');
  await mkdir(layer, { recursive: true });
  await writeFile(join(layer, 'bench'), 'of a rule');
  const change = {
    env: { BENCH: 'ruled' },
    labels: { bench: 'ruled' },
    layers: [{ directory: join(directory, 'layer') }],
  };
  const rules = [{ name: 'bench', match: { image: 'lab/**' }, ...change }];
  return startVeneer({ directory, upstream: address, rules });
}

/** What a Veneer has that others have not. */
export interface Tuning {
  /** Of veneer.yaml, in place of what is there. */
  readonly config?: object;
  readonly env?: Readonly<Record<string, string>>;
}

export async function startWith(directory: string, { address }: Server, tuning: Tuning): Promise<Server> {
  return startVeneer({ directory, upstream: address, tuning });
}

/** Two registries that are pushed to. */
export async function startHosts(directory: string): Promise<Pair> {
  return { veneer: await startHost(directory, 'veneer'), peer: await startHost(directory, 'peer') };
}

/** One of them alone. */
export async function startHost(directory: string, side: Side): Promise<Server> {
  const start = { veneer: startVeneer, peer: startPeer }[side];
  return start({ directory: directoriesIn(directory)[side] });
}

/** Of hosts, by the addresses of one repository: http://host:port/v2/name. */
export function repositoryIn({ veneer, peer }: Pair, name: string): Record<Side, string> {
  return { veneer: `http://${veneer.address}/v2/local/${name}`, peer: `http://${peer.address}/v2/${name}` };
}

export async function stopPair({ veneer, peer }: Pair): Promise<void> {
  await Promise.all([veneer.stop(), peer.stop()]);
}

/** Where each side of a pair has its configuration, and its data in `data`. */
export function directoriesIn(directory: string): Record<Side, string> {
  return { veneer: join(directory, 'veneer'), peer: join(directory, 'peer') };
}

interface VeneerOptions {
  readonly directory: string;
  /** The host:port of a registry that is its upstream `lab`. */
  readonly upstream?: string;
  /** As veneer.yaml has them. */
  readonly rules?: readonly object[];
  readonly tuning?: Tuning;
}

async function startVeneer({ directory, upstream, rules, tuning }: VeneerOptions): Promise<Server> {
  await mkdir(directory, { recursive: true });
  const port = tuning && (await findFreePort());
  const path = join(directory, CONFIGS.veneer);
  const config = {
    // Without its log it does not say which port it took.
    listen: `127.0.0.1:${port ?? 0}`,
    dataDir: join(directory, 'data'),
    log: { level: 'info', format: 'json' },
    // A collection comes only when it is asked for, and takes what was pushed a moment ago.
    hosted: { collect: { every: 'off', grace: '0s' } },
    ...(rules && { rules }),
    ...(upstream && { upstreams: { lab: { url: `http://${upstream}` } } }),
    ...tuning?.config,
  };
  await writeFile(path, JSON.stringify(config));
  const args = [VENEER, '--config', path, '--listen', config.listen, '--data-dir', config.dataDir];
  const env = { DOCKER_CONFIG: directory, VENEER_LOG: 'info', ...tuning?.env };
  return startServer({ file: process.execPath, args, env, ...(port !== undefined && { port }) });
}
