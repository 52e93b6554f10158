// Connections out: TLS, and the guard that keeps strangers from making us reach what is private.
import type { LookupAddress, LookupAllOptions, LookupOptions } from 'node:dns';
import ipaddr from 'ipaddr.js';
import { buildConnector } from 'undici';

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

// Which addresses a stranger may make us dial: public ones only.

/** Public by its range, but a cloud's metadata service: Azure's wire server. */
const METADATA: readonly string[] = ['168.63.129.16'];

/** All that is given out to hosts of the public internet. What is around it may reach an IPv4 network behind a translator. */
const GLOBAL_UNICAST = ipaddr.parseCIDR('2000::/3');

/** The middle of an address whose last 32 bits are an IPv4 address that a tunnel leads to (ISATAP). */
const ISATAP: readonly (number | undefined)[][] = [
  [0x0000, 0x5efe],
  [0x0200, 0x5efe],
];

/**
 * Whether `text` is an IP address, of the kind that a host in the public internet has: none of the special-purpose registries of IANA
 * (RFC 6890). IPv4 mapped into IPv6 counts as what it holds; no other form that carries an IPv4 address is public.
 */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  if (address.range() !== 'unicast' || METADATA.includes(address.toString())) return false;
  if (!(address instanceof ipaddr.IPv6)) return true;
  const [, , , , fifth, sixth] = address.parts;
  return address.match(GLOBAL_UNICAST) && !ISATAP.some(([a, b]) => a === fifth && b === sixth);
}

/** The host of a URL without the brackets of IPv6 and the dot of a full name. */
export function bareHost(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
}

/** Whether `hostname` is an IP address rather than a name. */
function isAddress(hostname: string): boolean {
  return ipaddr.isValid(bareHost(hostname));
}
