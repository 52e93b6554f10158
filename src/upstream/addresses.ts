// Which addresses a stranger may make us dial: public ones only.
import ipaddr from 'ipaddr.js';

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
export function isAddress(hostname: string): boolean {
  return ipaddr.isValid(bareHost(hostname));
}
