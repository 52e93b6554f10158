// The headers of authentication: Authorization with Basic of RFC 7617 or Bearer of RFC 6750, and the challenge of a 401.
import { RegistryError } from '../oci/errors.ts';

type Credentials = PasswordCredentials | { readonly kind: 'bearer'; readonly token: string };

export interface PasswordCredentials {
  readonly kind: 'password';
  readonly username: string;
  readonly password: string;
}

const MAX_HEADER = 16 * 1024;
const MAX_USERNAME = 255;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
const TOKEN68 = /^[A-Za-z0-9._~+/-]+=*$/;

/** Some registries and issuers issue tokens of thousands of characters as passwords. */
const MAX_PASSWORD = 8192;

/** Undefined where there is no header. Throws UNAUTHORIZED for one that is neither Basic nor Bearer; it never quotes it. */
export function parseAuthorization(header: string | undefined): Credentials | undefined {
  if (header === undefined) return undefined;
  if (header.length > MAX_HEADER) throw malformed(`is longer than ${MAX_HEADER} characters`);
  const [, scheme = '', value = ''] = /^([A-Za-z]+) +(\S+) *$/.exec(header) ?? [];
  switch (scheme.toLowerCase()) {
    case 'basic':
      return parseBasic(value);
    case 'bearer':
      if (!TOKEN68.test(value)) throw malformed('has no bearer token of RFC 6750');
      return { kind: 'bearer', token: value };
    default:
      throw malformed('is neither Basic nor Bearer');
  }
}

/** Throws UNAUTHORIZED for a name or password that is too long, or that has control characters. */
export function passwordCredentials(username: string, password: string): PasswordCredentials {
  if (username.length > MAX_USERNAME || password.length > MAX_PASSWORD) {
    const most = `${MAX_USERNAME} and ${MAX_PASSWORD} characters`;
    throw new RegistryError('UNAUTHORIZED', `the user name or password is too long: at most ${most}`);
  }
  if (/\p{Cc}/u.test(username + password)) {
    throw new RegistryError('UNAUTHORIZED', 'the user name or password has control characters');
  }
  return { kind: 'password', username, password };
}

function parseBasic(value: string): Credentials {
  if (!BASE64.test(value)) throw malformed('has no base64 after Basic');
  const text = decodeUtf8(Buffer.from(value, 'base64'));
  const colon = text?.indexOf(':') ?? -1;
  if (text === undefined || colon < 0) throw malformed('has no <user>:<password> in UTF-8');
  return passwordCredentials(text.slice(0, colon), text.slice(colon + 1));
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

function malformed(what: string): RegistryError {
  return new RegistryError('UNAUTHORIZED', `the Authorization header ${what}`);
}

/** The `service` of our challenges, and the audience of our tokens. */
export const SERVICE = 'veneer';

/** The challenge of a 401. RFC 6750 section 3, with the parameters of the token specification. */
export interface Challenge {
  /** The URL of the token endpoint. */
  readonly realm: string;
  readonly scope?: string | undefined;
  /** Why the given bearer token was insufficient. */
  readonly error?: 'invalid_token' | 'insufficient_scope' | undefined;
}

/** The value of WWW-Authenticate. */
export function formatChallenge({ realm, scope, error }: Challenge): string {
  const parameters = Object.entries({ realm, service: SERVICE, scope, error }).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${quote(value)}`],
  );
  return `Bearer ${parameters.join(',')}`;
}

/** A quoted-string. A URL from the client may have a quote in its host; anything but printable ASCII breaks a header. */
function quote(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, '?').replace(/["\\]/g, '\\$&')}"`;
}
