// What the configuration says of a registry: where it is, who we are there, and how we treat it.
import type { TlsOptions } from './connector.ts';
import type { Credentials } from './credentials.ts';
import type { GatePolicy } from './gate.ts';

/** One address. */
export interface PlaceEntry {
  /** Default: https at the upstream's name. Plain http only where it is said here. */
  readonly url?: string | undefined;
  readonly credentials?: Credentials | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Hosts, with their ports, that may get the credentials for a token, at any address and of any domain. */
  readonly tokenRealms?: readonly string[] | undefined;
  /** Hosts, with their ports, that a redirect may lead to although their address is private, and at which an upload may go on. */
  readonly redirectHosts?: readonly string[] | undefined;
}

interface MirrorEntry extends PlaceEntry {
  readonly url: string;
}

/** The policy holds for each of its places by itself. */
export interface UpstreamEntry extends PlaceEntry, GatePolicy {
  /** Asked before it, in this order. Nothing of its credentials is theirs, and nothing of theirs another's. */
  readonly mirrors?: readonly MirrorEntry[] | undefined;
  /** Whether it is never asked. */
  readonly offline?: boolean | undefined;
  /** Whether its pulls show it the credentials of their clients, and we none of our own. */
  readonly passCredentials?: boolean | undefined;
  /** Globs of the repositories that may be pulled; default: all. */
  readonly allow?: readonly string[] | undefined;
  /** Globs of those that may not, although they are allowed. */
  readonly deny?: readonly string[] | undefined;
}
