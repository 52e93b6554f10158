// The client's credentials for upstreams that receive them in place of ours: as Basic, or sealed in one of our bearer tokens. Engines only
// send credentials after a challenge, most of them on /v2/; a Basic challenge there would fail every pull of dockerd without a login, a
// Bearer challenge does not.
import type { Context, MiddlewareHandler } from 'hono';
import {
  type Challenge,
  formatChallenge,
  type PasswordCredentials,
  parseAuthorization,
  SERVICE,
} from '../../access/authorization.ts';
import type { SealedCredentials } from '../../access/sealed-credentials.ts';
import { RegistryError } from '../../oci/errors.ts';

declare module 'hono' {
  interface ContextVariableMap {
    /** Set once the client's credentials were used for an upstream. */
    isShown: boolean;
  }
}

interface CredentialPassThrough {
  /**
   * The client's credentials. Throws UNAUTHORIZED for anything but Basic or one of our bearer tokens; quotes nothing.
   */
  get(c: Context): PasswordCredentials | undefined;
  /** Goes before the registry routes: adds the challenge to a 401 of an upstream that receives credentials. */
  readonly challenge: MiddlewareHandler;
}

export function createCredentialPassThrough({
  sealed,
  publicUrl,
}: {
  readonly sealed: Pick<SealedCredentials, 'open'>;
  /** The address of this service for clients; default: that of the request. */
  readonly publicUrl: string | undefined;
}): CredentialPassThrough {
  function find(c: Context): PasswordCredentials | undefined {
    const shown = parseAuthorization(c.req.header('Authorization'));
    const credentials = shown?.kind === 'bearer' ? sealed.open(shown.token) : shown;
    // Some clients send an empty name and password for none.
    return credentials && (credentials.username || credentials.password) ? credentials : undefined;
  }

  function bearer(c: Context, error?: Challenge['error']): string {
    return formatChallenge({ realm: new URL('/token', publicUrl ?? c.req.url).href, error });
  }

  /** For clients that ask before they pull. */
  function addChallenge(c: Context): void {
    try {
      find(c);
      if (c.req.header('Authorization') !== undefined) return;
      throw new RegistryError('UNAUTHORIZED', 'get a token first, with or without a login: an upstream may require it');
    } catch (error) {
      c.header('WWW-Authenticate', bearer(c));
      c.header('Docker-Distribution-Api-Version', 'registry/2.0');
      throw error;
    }
  }

  return {
    get(c) {
      c.set('isShown', true);
      return find(c);
    },
    async challenge(c, next) {
      if (/^\/v2\/?$/.test(c.req.path)) addChallenge(c);
      await next();
      if (c.res.status !== 401 || !c.get('isShown')) return;
      const isBearer = /^bearer /i.test(c.req.header('Authorization') ?? '');
      const error = isBearer ? 'invalid_token' : undefined;
      c.res.headers.set('WWW-Authenticate', `${bearer(c, error)}, Basic realm="${SERVICE}",charset="UTF-8"`);
    },
  };
}
