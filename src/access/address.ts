// Addresses: whether a host can only be reached from this machine, and which network an address is in.
import ipaddr from 'ipaddr.js';

/** Takes a name or an address, an IPv6 one with or without its brackets. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost') return true;
  const address = host.replace(/^\[|\]$/g, '');
  return ipaddr.isValid(address) && ipaddr.process(address).range() === 'loopback';
}

export interface Network {
  readonly name: string;
  readonly isPublic: boolean;
}

/** The address, or the first half of an IPv6 one: whoever has one has all of them. */
export function networkOf(address: string): Network {
  if (!ipaddr.isValid(address)) return { name: address, isPublic: false };
  const parsed = ipaddr.process(address);
  const text = parsed.toNormalizedString();
  const name = parsed.kind() === 'ipv6' ? text.split(':').slice(0, 4).join(':') : text;
  return { name, isPublic: parsed.range() === 'unicast' };
}
