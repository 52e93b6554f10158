// Addresses: whether a host is only reachable from this machine, and which network an address belongs to.
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

/** Which of the networks an address is in; those that are none are passed over. */
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

type Address = ReturnType<typeof ipaddr.process>;

/** No IPv4 address is in a network of IPv6: those that are written as IPv6 were read as what they are. */
function isWithin(own: Address, network: Address, bits: number): boolean {
  return own.kind() === network.kind() && own.match(network, bits);
}
