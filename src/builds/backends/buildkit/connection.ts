// How buildctl reaches a BuildKit, and whether that shares the network of this machine.
import { readFile, realpath } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { basename, dirname, join } from 'node:path';

export interface BuildkitConnection {
  /** `unix:///path`, `tcp://host:port` or another one that buildctl knows. */
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

/** The arguments of `buildctl` in front of its command. */
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
 * Whether the address is one of our own network, so that the network of its machine is ours, too. A socket in a folder is listed where its
 * server listens: that of a container, or of a BuildKit without root in a network of its own, is not among ours.
 */
export async function isInOurNetwork(address: string): Promise<boolean> {
  const url = URL.parse(address);
  if (url?.protocol === 'unix:') return isOurSocket(url.pathname);
  return url?.protocol === 'tcp:' && isOurHost(url.hostname.replace(/^\[(.*)\]$/, '$1'));
}

async function isOurSocket(path: string): Promise<boolean> {
  try {
    const place = await resolveFolder(path);
    const listed = (await readFile('/proc/net/unix', 'utf8')).matchAll(/^\S+: \S+ \S+ 00010000 .* (\/.*)$/gm);
    for (const [, other = ''] of listed) if (other === path || (await resolveFolder(other)) === place) return true;
    return false;
  } catch {
    // No Linux: what builds is in a machine of its own.
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
