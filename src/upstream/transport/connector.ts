// Outgoing connections: TLS, and the guard that prevents requests to private addresses.
import type { LookupAddress, LookupAllOptions, LookupOptions } from 'node:dns';
import type { OnReadOpts } from 'node:net';
import ipaddr from 'ipaddr.js';
import { buildConnector } from 'undici';

/** PEM texts; `insecure` accepts any certificate. */
export interface TlsOptions {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly insecure?: boolean | undefined;
}

/** Resolves a name to all its addresses, like `dns.lookup`. */
export type Lookup = (
  hostname: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export interface ConnectorOptions {
  readonly connectMs: number;
  /** Whether only public addresses may be dialled, by name or literally. */
  readonly isGuarded: boolean;
  readonly tls?: TlsOptions | undefined;
  readonly lookup: Lookup;
  /** How its sockets read. Default: as Node does. */
  readonly onread?: OnReadOpts | undefined;
}

/** The address is private or reserved. */
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
  onread,
}: ConnectorOptions): buildConnector.connector {
  const connect = buildConnector({
    ...(onread && { onread }),
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

/** Checks the addresses that are then dialled, so that a second DNS answer cannot differ. */
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

// Public addresses: the only ones that untrusted input may make us dial.

/** In a public range, but a cloud's metadata service: Azure's wire server. */
const METADATA: readonly string[] = ['168.63.129.16'];

/** The global unicast range. The ranges around it may reach an IPv4 network through a translator. */
const GLOBAL_UNICAST = ipaddr.parseCIDR('2000::/3');

/** The middle of an ISATAP address, whose last 32 bits are an IPv4 address. */
const ISATAP: readonly (number | undefined)[][] = [
  [0x0000, 0x5efe],
  [0x0200, 0x5efe],
];

/**
 * Whether `text` is a public IP address: in none of the special-purpose registries of IANA (RFC 6890). IPv4 mapped into IPv6 counts as the
 * IPv4 address; no other form that embeds one is public.
 */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (address.range() !== 'unicast' || METADATA.includes(address.toString())) return false;
  if (!(address instanceof ipaddr.IPv6)) return true;
  const [, , , , fifth, sixth] = address.parts;
  return address.match(GLOBAL_UNICAST) && !ISATAP.some(([a, b]) => a === fifth && b === sixth);
}

/** The host of a URL without the brackets of IPv6 and a trailing dot. */
export function bareHost(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
}

/** Whether `hostname` is an IP address rather than a name. */
function isAddress(hostname: string): boolean {
  return ipaddr.isValid(bareHost(hostname));
}
