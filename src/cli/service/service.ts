// The running service as commands ask it: one request, and its answer or why there is none.
import { isAccessToken } from '../../access/access-token.ts';

export interface Service {
  readonly url: URL;
  /** An access token, `<user>:<password>`, or a bearer token. */
  readonly token?: string | undefined;
}

interface RefusalOptions extends ErrorOptions {
  /** Whether no answer came at all. */
  readonly isUnreachable?: boolean;
  /** Whether the same request may get another answer soon. */
  readonly isPassing?: boolean;
}

/** The service did not do it; the message says why, and is for people. */
export class ServiceRefused extends Error {
  override readonly name = 'ServiceRefused';
  readonly isUnreachable: boolean;
  readonly isPassing: boolean;

  constructor(message: string, { isUnreachable = false, isPassing = isUnreachable, ...rest }: RefusalOptions = {}) {
    super(message, rest);
    this.isUnreachable = isUnreachable;
    this.isPassing = isPassing;
  }
}

/**
 * The answer, whatever its status; the caller reads or cancels its body. `path` may be a URL, of the service alone. Throws ServiceRefused,
 * or the signal's reason.
 */
export async function sendRequest(service: Service, path: string, init: RequestInit = {}): Promise<Response> {
  const target = new URL(path, service.url);
  // The token is for the service alone.
  if (target.origin !== service.url.origin) throw new ServiceRefused(`${service.url.host} sends us elsewhere`);
  const headers = new Headers(init.headers);
  if (service.token !== undefined) headers.set('Authorization', authorizationOf(service.token.trim()));
  try {
    return await fetch(target, { ...init, headers, redirect: 'error' });
  } catch (cause) {
    init.signal?.throwIfAborted();
    const message = `no service answers at ${target.host}${reasonOf(cause)}`;
    throw new ServiceRefused(message, { cause, isUnreachable: true });
  }
}

function authorizationOf(token: string): string {
  if (isAccessToken(token)) return basic(`token:${token}`);
  if (token.includes(':')) return basic(token);
  // An error of the library would quote it.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new ServiceRefused('VENEER_TOKEN holds characters that no token has');
  return `Bearer ${token}`;
}

function basic(credentials: string): string {
  return `Basic ${Buffer.from(credentials).toString('base64')}`;
}

/** The code of the system, such as ECONNREFUSED, where there is one. */
function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  if (!(cause instanceof Error)) return '';
  return ` (${'code' in cause && typeof cause.code === 'string' ? cause.code : cause.message})`;
}
