// Which addresses a stranger may make us dial: public ones only.
import ipaddr from 'ipaddr.js';

/** Public by its range, but a cloud's metadata service: Azure's wire server. */
const METADATA: readonly string[] = ['168.63.129.16'];

/** Whether `text` is an IP address, of the kind that an address in the public internet has. IPv4 inside IPv6 counts as what it holds. */
export function isPublicAddress(text: string): boolean {
  if (!ipaddr.isValid(text)) return false;
  const address = ipaddr.process(text);
  return address.range() === 'unicast' && !METADATA.includes(address.toString());
}

/** The host of a URL without the brackets of IPv6 and the dot of a full name. */
export function bareHost(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
}

/** Whether `hostname` is an IP address rather than a name. */
export function isAddress(hostname: string): boolean {
  return ipaddr.isValid(bareHost(hostname));
}
