// Connections out: TLS, and the guard that keeps strangers from making us reach what is private.
import type { LookupAddress, LookupAllOptions, LookupOptions } from 'node:dns';
import { buildConnector } from 'undici';
import { bareHost, isAddress, isPublicAddress } from './addresses.ts';

/** PEM texts; `insecure` accepts any certificate. */
export interface TlsOptions {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly insecure?: boolean | undefined;
}

/** Resolves a name to all its addresses, as `dns.lookup` does. */
export type Lookup = (
  hostname: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export interface ConnectorOptions {
  readonly connectMs: number;
  /** Whether only public addresses may be reached, by name or as they are. */
  readonly isGuarded: boolean;
  readonly tls?: TlsOptions | undefined;
  readonly lookup: Lookup;
}

/** The address is one that no stranger may make us reach. */
export class ForbiddenAddress extends Error {
  override readonly name = 'ForbiddenAddress';

  constructor(hostname: string) {
    super(`${hostname} is at a private or reserved address`);
  }
}

export function createConnector({
  connectMs,
  isGuarded,
  tls = {},
  lookup,
}: ConnectorOptions): buildConnector.connector {
  const connect = buildConnector({
    allowH2: false,
    timeout: connectMs,
    rejectUnauthorized: !tls.insecure,
    ...(tls.ca && { ca: tls.ca }),
    ...(tls.cert && { cert: tls.cert }),
    ...(tls.key && { key: tls.key }),
    lookup: (hostname, options, callback) => {
      lookup(hostname, { ...options, all: true }, (error, addresses) => {
        answer({ hostname, options, isGuarded }, error, addresses ?? [], callback);
      });
    },
  });
  if (!isGuarded) return connect;
  return (target, callback) => {
    // A literal address is dialled without a lookup.
    if (isAddress(target.hostname) && !isPublicAddress(bareHost(target.hostname))) {
      callback(new ForbiddenAddress(target.hostname), null);
    } else {
      connect(target, callback);
    }
  };
}

interface Question {
  readonly hostname: string;
  readonly options: LookupOptions;
  readonly isGuarded: boolean;
}

type LookupCallback = (error: NodeJS.ErrnoException | null, address: string | LookupAddress[], family?: number) => void;

/** Checks the very addresses that are dialled next, so that a second answer of the name server cannot differ. */
function answer(
  { hostname, options, isGuarded }: Question,
  error: NodeJS.ErrnoException | null,
  addresses: LookupAddress[],
  callback: LookupCallback,
): void {
  const [first] = addresses;
  if (error || !first) callback(error ?? new Error(`${hostname} has no address`), []);
  else if (isGuarded && !addresses.every(({ address }) => isPublicAddress(address))) {
    callback(new ForbiddenAddress(hostname), []);
  } else if (options.all) callback(null, addresses);
  else callback(null, first.address, first.family);
}
