// Whether a host can only be reached from this machine.
import ipaddr from 'ipaddr.js';

/** Takes a name or an address, an IPv6 one with or without its brackets. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost') return true;
  const address = host.replace(/^\[|\]$/g, '');
  return ipaddr.isValid(address) && ipaddr.process(address).range() === 'loopback';
}
