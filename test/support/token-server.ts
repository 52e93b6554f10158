// Bearer tokens of the test registry: distribution's token protocol, and OAuth2's, strict about credentials and scope.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';

export interface TokenServer {
  /**
   * Answers GET /token: a token for the asked scopes, or 401 without the right Basic credentials; and POST /token, where the password is
   * the identity token.
   */
  give(request: IncomingMessage, response: ServerResponse): ServerResponse;
  /** Whether the request has a token that may pull from `repository`; any of our tokens will do for an empty name. */
  admits(request: IncomingMessage, repository: string): boolean;
  /** Answers 401 with what a client needs to get a token. */
  challenge(request: IncomingMessage, response: ServerResponse, repository: string): ServerResponse;
}

export function createTokenServer(credentials: { username: string; password: string } | undefined): TokenServer {
  const scopesByToken = new Map<string, readonly string[]>();
  const basic = credentials && `Basic ${btoa(`${credentials.username}:${credentials.password}`)}`;

  function grant(response: ServerResponse, field: 'token' | 'access_token', scopes: readonly string[]): ServerResponse {
    const token = randomUUID();
    scopesByToken.set(
      token,
      scopes.flatMap(scope => scope.split(' ')),
    );
    response.writeHead(200, { 'content-type': 'application/json' });
    return response.end(JSON.stringify({ [field]: token, expires_in: 300 }));
  }

  async function refresh(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const form = new URLSearchParams(await text(request));
    const isKnown = credentials === undefined || form.get('refresh_token') === credentials.password;
    const isComplete = form.get('grant_type') === 'refresh_token' && form.has('client_id') && form.has('service');
    if (isKnown && isComplete) grant(response, 'access_token', form.getAll('scope'));
    else deny(response);
  }

  return {
    give(request, response) {
      if (request.method === 'POST') {
        void refresh(request, response);
        return response;
      }
      if (basic !== undefined && request.headers.authorization !== basic) return deny(response);
      const { searchParams } = new URL(request.url ?? '/', 'http://registry');
      return grant(response, 'token', searchParams.getAll('scope'));
    },
    admits(request, repository) {
      const scopes = scopesByToken.get(request.headers.authorization?.replace(/^Bearer /, '') ?? '');
      return scopes !== undefined && (repository === '' || scopes.includes(scopeOf(repository)));
    },
    challenge(request, response, repository) {
      const scope = repository && `,scope="${scopeOf(repository)}"`;
      const realm = `http://${request.headers.host}/token`;
      response.setHeader('www-authenticate', `Bearer realm="${realm}",service="test"${scope}`);
      return deny(response);
    },
  };
}

function scopeOf(repository: string): string {
  return `repository:${repository}:pull`;
}

function deny(response: ServerResponse): ServerResponse {
  response.writeHead(401, { 'content-type': 'application/json' });
  return response.end(
    JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'authentication required', detail: null }] }),
  );
}
