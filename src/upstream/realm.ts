// Token realms: where an upstream sends us and our credentials for a token. It may not send them anywhere it likes.
import { getDomain } from 'tldts';
import { bareHost } from './addresses.ts';
import { type Attempt, badAnswer } from './failure.ts';

export interface RealmRules {
  /** Of the upstream. */
  readonly url: URL;
  /** Further hosts, with their ports, that the configuration trusts with the upstream's credentials. */
  readonly tokenRealms: readonly string[];
}

/** Customers have hosts of their own below these, although the public suffix list does not say so. */
const SHARED_DOMAINS: readonly string[] = ['amazonaws.com', 'azurecr.io', 'jfrog.io'];

/** Throws 502 for a realm that is no http(s) URL, less safe than the upstream, or neither of its domain nor configured. */
export function parseRealm(text: string, rules: RealmRules, attempt: Attempt): URL {
  const realm = URL.parse(text);
  if (!realm || !['http:', 'https:'].includes(realm.protocol)) throw badAnswer(attempt, 'the token realm is no URL');
  if (rules.url.protocol === 'https:' && realm.protocol !== 'https:') {
    throw badAnswer(attempt, 'the token realm is not https, as the upstream is');
  }
  if (!isTrustedRealm(realm, rules) && !isSameDomain(realm, rules.url)) {
    const reason = `the token realm ${realm.host} is not of the upstream's domain, nor in tokenRealms of its entry`;
    throw badAnswer(attempt, reason);
  }
  realm.username = '';
  realm.password = '';
  return realm;
}

/** Whether the realm is at the upstream's own host, or at one that the configuration names: it may then be at any address. */
export function isTrustedRealm(realm: URL, { url, tokenRealms }: RealmRules): boolean {
  return bareHost(realm.hostname) === bareHost(url.hostname) || tokenRealms.includes(realm.host);
}

function isSameDomain(a: URL, b: URL): boolean {
  const domain = getDomain(b.hostname, { allowPrivateDomains: true });
  if (domain === null || SHARED_DOMAINS.some(shared => domain === shared || domain.endsWith(`.${shared}`)))
    return false;
  return getDomain(a.hostname, { allowPrivateDomains: true }) === domain;
}
