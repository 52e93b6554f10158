// How buildctl connects, and which network a RUN gets: one that shares this machine's reaches our loopback address like a local user.
import { readFile, realpath } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { findNeeds } from '../../needs.ts';
import type { Report } from '../../progress.ts';
import type { ContainerFileSpec } from '../../spec.ts';

/** `own`: the builder's default is isolated from this machine's network. */
export type StepNetwork = 'own' | 'none' | 'host';

const NOTES = {
  own: undefined,
  none: 'a RUN has no network: this builder would give it that of this machine, with its loopback address; `networkMode = "bridge"` in buildkitd.toml gives it one of its own, and `hostNetwork: true` allows it',
  host: 'a RUN has the network of this machine, and reaches what listens on its loopback address',
} as const;

export function listNetworkNotes(network: StepNetwork): readonly string[] {
  const note = NOTES[network];
  return note === undefined ? [] : [note];
}

/** The network to request of the builder for that of the spec. */
export function networkOf({ network }: ContainerFileSpec, steps: StepNetwork): ContainerFileSpec['network'] {
  return network === 'default' && steps === 'none' ? 'none' : network;
}

/** A custom frontend runs in the builder, with the builder's network. */
export function findUnsupportedNetwork(spec: ContainerFileSpec, steps: StepNetwork): string | undefined {
  const frontend = steps === 'none' ? findNeeds(spec)?.frontend : undefined;
  return frontend && `the frontend ${JSON.stringify(frontend)} would have the network of this machine`;
}

/** Explains in the log why a step reaches nothing. */
export function reportNetwork(spec: ContainerFileSpec, steps: StepNetwork, report: Report): void {
  if (steps !== 'none' || spec.network !== 'default') return;
  if (!findNeeds(spec)?.steps.some(({ kind }) => kind === 'run')) return;
  for (const text of listNetworkNotes(steps)) report({ kind: 'note', text });
}

export interface BuildkitConnection {
  /** `unix:///path`, `tcp://host:port` or another form that buildctl accepts. */
  readonly address: string;
  /** Paths of PEM files; with any of them, or a server name, the connection is TLS. */
  readonly tls?: BuildkitTls | undefined;
}

export interface BuildkitTls {
  readonly caPath?: string | undefined;
  readonly certPath?: string | undefined;
  readonly keyPath?: string | undefined;
  /** The name in the server's certificate; absent: the address's host. */
  readonly serverName?: string | undefined;
}

/** The arguments of `buildctl` before its command. */
export function connectionArguments({ address, tls = {} }: BuildkitConnection): readonly string[] {
  const options = {
    '--addr': address,
    '--tlsservername': tls.serverName,
    '--tlscacert': tls.caPath,
    '--tlscert': tls.certPath,
    '--tlskey': tls.keyPath,
  };
  return Object.entries(options).flatMap(([option, value]) => (value === undefined ? [] : [option, value]));
}

/**
 * Whether the address is within our network namespace, so that its host network is ours, too. /proc lists a socket in the namespace in which its
 * server listens: that of a container, or of a rootless BuildKit, is not in ours.
 */
export async function sharesOurNetwork(address: string): Promise<boolean> {
  const url = URL.parse(address);
  if (url?.protocol === 'unix:') return isOurSocket(url.pathname);
  return url?.protocol === 'tcp:' && isOurHost(url.hostname.replace(/^\[(.*)\]$/, '$1'));
}

async function isOurSocket(path: string): Promise<boolean> {
  try {
    const folder = await resolveFolder(path);
    const listed = (await readFile('/proc/net/unix', 'utf8')).matchAll(/^\w+: \w+ \w+ 00010000 \w+ \w+ +\d+ (\/.*)$/gm);
    for (const [, other = ''] of listed) if (other === path || (await resolveFolder(other)) === folder) return true;
    return false;
  } catch {
    // Not Linux: the builder runs in a virtual machine.
    return false;
  }
}

async function resolveFolder(path: string): Promise<string> {
  return join(await realpath(dirname(path)).catch(() => dirname(path)), basename(path));
}

function isOurHost(host: string): boolean {
  const own = Object.values(networkInterfaces()).flatMap(addresses => addresses?.map(({ address }) => address) ?? []);
  return host === 'localhost' || /^127\./.test(host) || own.includes(host);
}
