// The token endpoint: exchanges credentials for a bearer token. The distribution project's token specification, by GET and by OAuth2's
// POST.

import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { z } from 'zod';
import type { BearerRequest, IssuedBearer, TokenIssuer } from '../../access/access.ts';
import {
  type PasswordCredentials,
  parseAuthorization,
  passwordCredentials,
  SERVICE,
} from '../../access/authorization.ts';
import type { RepositoryAccess } from '../../access/right.ts';
import { asksForCatalog, formatScope, parseScopes } from '../../access/right.ts';
import { RegistryError } from '../../oci/errors.ts';
import { noteAction } from '../middleware/request-log.ts';

const MAX_BODY_BYTES = 16 * 1024;

const text = z.string().optional();
const formSchema = z.object({
  grant_type: text,
  service: text,
  scope: text,
  username: text,
  password: text,
  refresh_token: text,
});

export function createTokenEndpoint({
  bearer,
  normalizeName,
  addressOf,
}: {
  readonly bearer: TokenIssuer;
  /** The canonical full name of a repository. Throws RegistryError for an invalid name. */
  readonly normalizeName: (name: string) => string;
  /** The client address of a request, if known. */
  readonly addressOf: (c: Context) => string | undefined;
}): Hono {
  const app = new Hono();

  app.get('/token', async c => {
    checkService(c.req.query('service'));
    return issue(c, c.req.queries('scope') ?? [], () => parseBasic(c.req.header('Authorization')));
  });

  app.post('/token', bodyLimit({ maxSize: MAX_BODY_BYTES, onError: refuseBody }), async c => {
    const form = formSchema.parse(Object.fromEntries(new URLSearchParams(await c.req.text())));
    checkService(form.service);
    return issue(c, form.scope === undefined ? [] : [form.scope], () => parseForm(form));
  });

  async function issue(
    c: Context,
    scopes: readonly string[],
    parseCredentials: () => BearerRequest['credentials'],
  ): Promise<Response> {
    const asked = parseScopes(scopes);
    try {
      const request = {
        asksForCatalog: asksForCatalog(scopes),
        credentials: parseCredentials(),
        address: addressOf(c),
        asked: asked.flatMap(normalize),
      };
      const isNamed = request.credentials !== undefined;
      if (isNamed) noteAction(c, 'bearer-token.issue');
      const issued = await bearer.issue(request);
      const target = issued.granted.map(formatScope).join(' ') || undefined;
      if (isNamed) noteAction(c, 'bearer-token.issue', { target, caller: issued.subject });
      return c.json(answer(issued), 200, { 'Cache-Control': 'no-store' });
    } catch (error) {
      if (error instanceof RegistryError && error.status === 401) {
        c.header('WWW-Authenticate', `Basic realm="${SERVICE}",charset="UTF-8"`);
      }
      throw error;
    }
  }

  /** An unresolvable name gives no right; the request that uses it reports the error. */
  function normalize(asked: RepositoryAccess): readonly RepositoryAccess[] {
    try {
      return [{ ...asked, repository: normalizeName(asked.repository) }];
    } catch (error) {
      if (error instanceof RegistryError) return [];
      throw error;
    }
  }

  return app;
}

function checkService(service: string | undefined): void {
  if (service === undefined || service === SERVICE) return;
  throw invalid(`service is "${service.slice(0, 100)}": expected ${SERVICE}`);
}

function parseBasic(header: string | undefined): PasswordCredentials | undefined {
  const credentials = parseAuthorization(header);
  if (credentials?.kind !== 'bearer') return credentials;
  throw new RegistryError(
    'UNAUTHORIZED',
    'a bearer token cannot be exchanged for another: send a user name and password',
  );
}

/** An access token may be sent as the password of any user name, or as a refresh token: we issue no other kind. */
function parseForm(form: z.infer<typeof formSchema>): PasswordCredentials {
  switch (form.grant_type) {
    case 'password':
      return passwordCredentials(form.username ?? '', form.password ?? '');
    case 'refresh_token':
      return passwordCredentials('', form.refresh_token ?? '');
    default:
      throw invalid('grant_type: expected password or refresh_token');
  }
}

/** `token` is for clients of the token specification, the other fields for those of OAuth2. */
function answer({ token, issuedAt, expiresInSeconds, granted }: IssuedBearer) {
  return {
    token,
    access_token: token,
    token_type: 'Bearer',
    scope: granted.map(formatScope).join(' '),
    expires_in: expiresInSeconds,
    issued_at: issuedAt.toISOString(),
  };
}

function refuseBody(): never {
  throw new RegistryError('SIZE_INVALID', `the body is larger than ${MAX_BODY_BYTES} bytes`, { status: 413 });
}

function invalid(message: string): RegistryError {
  return new RegistryError('UNSUPPORTED', message, { status: 400 });
}
