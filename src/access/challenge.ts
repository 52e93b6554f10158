// Challenges: what a 401 tells a client to do. RFC 6750 section 3, with the parameters of the token specification.
import { SERVICE } from './bearer-token.ts';

export interface Challenge {
  /** The URL of the token endpoint. */
  readonly realm: string;
  readonly scope?: string | undefined;
  /** Why the bearer token that came along was not enough. */
  readonly error?: 'invalid_token' | 'insufficient_scope' | undefined;
}

/** The value of WWW-Authenticate. */
export function formatChallenge({ realm, scope, error }: Challenge): string {
  const parameters = Object.entries({ realm, service: SERVICE, scope, error }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${quote(value)}`],
  );
  return `Bearer ${parameters.join(',')}`;
}

/** A quoted-string. A URL may have a quote in its host, and it came from the client; what is not printable ASCII breaks a header. */
function quote(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, '\\$&')}"`;
}
