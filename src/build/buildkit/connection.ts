// How buildctl reaches a BuildKit.

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
