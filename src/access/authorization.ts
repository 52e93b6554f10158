// The Authorization header: RFC 9110 section 11.6.2, Basic of RFC 7617, Bearer of RFC 6750.
import { RegistryError } from '../oci/errors.ts';

export type Credentials = PasswordCredentials | { readonly kind: 'bearer'; readonly token: string };

export interface PasswordCredentials {
  readonly kind: 'password';
  readonly username: string;
  readonly password: string;
}

const MAX_HEADER = 16 * 1024;
const MAX_USERNAME = 255;
const MAX_PASSWORD = 1024;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;
const TOKEN68 = /^[A-Za-z0-9._~+/-]+=*$/;

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
    const limits = `${MAX_USERNAME} and ${MAX_PASSWORD} characters`;
    throw new RegistryError('UNAUTHORIZED', `the user name or password is too long: at most ${limits}`);
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
