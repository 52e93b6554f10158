// Addresses: whether a host is only reachable from this machine, which network an address belongs to, and which client is behind a trusted
// proxy.
import ipaddr from 'ipaddr.js';

/** Accepts a name or an address, IPv6 with or without brackets. */
export function isLoopback(host: string): boolean {
  if (host === '127.0.0.1' || host.toLowerCase() === 'localhost') return true;
  const address = host.replace(/^\[|\]$/g, '');
  return ipaddr.isValid(address) && ipaddr.process(address).range() === 'loopback';
}

export interface Network {
  readonly name: string;
  readonly isPublic: boolean;
}

/** The address, or the first half of an IPv6 one: clients usually have a whole /64. */
export function networkOf(address: string): Network {
  if (!ipaddr.isValid(address)) return { name: address, isPublic: false };
  const parsed = ipaddr.process(address);
  const text = parsed.toNormalizedString();
  const name = parsed.kind() === 'ipv6' ? text.split(':').slice(0, 4).join(':') : text;
  return { name, isPublic: parsed.range() === 'unicast' };
}

/** What is wrong with a network in CIDR notation; undefined for a good one. */
export function findNetworkFault(text: string): string | undefined {
  return ipaddr.isValidCIDR(text) ? undefined : 'expected a network such as 10.0.0.0/8, 192.168.1.7/32 or fd00::/8';
}

/** Which of the networks an address is in; invalid ones are skipped. */
export function createNetworkTest(networks: readonly string[]): (address: string) => readonly string[] {
  const parsed = [...new Set(networks)].filter(text => ipaddr.isValidCIDR(text));
  const ranges = parsed.map(text => ({ text, range: ipaddr.parseCIDR(text) }));
  if (ranges.length === 0) return () => [];
  return address => {
    if (!ipaddr.isValid(address)) return [];
    const own = ipaddr.process(address);
    return ranges.filter(({ range: [network, bits] }) => isWithin(own, network, bits)).map(({ text }) => text);
  };
}

/** Whether an address is one of these, or in one of these networks. */
export function createAddressTest(addresses: readonly string[]): (address: string | undefined) => boolean {
  const ranges = addresses.map(parseNetwork).filter(range => range !== undefined);
  return address => {
    if (address === undefined || ranges.length === 0 || !ipaddr.isValid(address)) return false;
    const own = ipaddr.process(address);
    return ranges.some(([network, bits]) => isWithin(own, network, bits));
  };
}

/** Undefined for what is neither an address nor a network. */
function parseNetwork(text: string): [Address, number] | undefined {
  if (ipaddr.isValidCIDR(text)) return ipaddr.parseCIDR(text);
  if (!ipaddr.isValid(text)) return undefined;
  const address = ipaddr.process(text);
  return [address, address.kind() === 'ipv6' ? 128 : 32];
}

type Address = ReturnType<typeof ipaddr.process>;

/** No IPv4 address is in an IPv6 network: addresses mapped into IPv6 were already converted. */
function isWithin(own: Address, network: Address, bits: number): boolean {
  return own.kind() === network.kind() && own.match(network, bits);
}

/** Reverse proxies whose header is trusted. */
export interface TrustedProxies {
  /** Addresses or networks in CIDR notation. */
  readonly addresses: readonly string[];
  /** The one header that they set. Any other that a client may have sent is ignored. */
  readonly header: 'X-Forwarded-For' | 'Forwarded';
}

interface Forwarding {
  isTrusted(address: string | undefined): boolean;
  /**
   * The client's address: of the peer, or where that is trusted, the last in its header that is not a trusted proxy's. `unknown` where a
   * proxy gives no address for it; the peer's own without the header.
   */
  findClient(peer: string | undefined, header: (name: string) => string | undefined): string | undefined;
}

/** Neither local nor in any network. */
const UNKNOWN = 'unknown';

/** A longer chain is made up by the client. */
const MAX_HOPS = 32;

export function createForwarding({ addresses, header: name }: TrustedProxies): Forwarding {
  const isTrusted = createAddressTest(addresses);
  return {
    isTrusted,
    findClient(peer, header) {
      const address = peer?.startsWith(MAPPED) ? peer.slice(MAPPED.length) : peer;
      if (!isTrusted(address)) return address;
      let client = address;
      for (const hop of parseHops(header(name), name)) {
        // A client that its proxy does not name must not count as that proxy, which may be local.
        if (hop === undefined) return UNKNOWN;
        client = hop;
        if (!isTrusted(hop)) break;
      }
      return client;
    },
  };
}

/** Prefix of an IPv4 address on a dual-stack socket. */
const MAPPED = '::ffff:';

/** The nearest first; undefined for one that names no address. */
function parseHops(text: string | undefined, header: TrustedProxies['header']): readonly (string | undefined)[] {
  const hops = text?.split(',').slice(-MAX_HOPS).toReversed() ?? [];
  return hops.map(hop => parseNode((header === 'Forwarded' ? findFor(hop) : hop).trim()));
}

/** RFC 7239 section 4: the value of `for`. */
function findFor(element: string): string {
  return /(?:^|;)\s*for\s*=\s*("?)([^";]*)\1\s*(?:;|$)/i.exec(element)?.[2] ?? '';
}

/** RFC 7239 section 6: an address, which may have a port. */
function parseNode(text: string): string | undefined {
  const [, bracketed, plain = text] = /^\[([^\]]*)\](?::\d+)?$|^([\d.]+):\d+$/.exec(text) ?? [];
  const address = bracketed ?? plain;
  return ipaddr.isValid(address) ? ipaddr.process(address).toString() : undefined;
}
