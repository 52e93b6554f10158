// A real OpenID Connect issuer in process: it signs tokens for whatever claims a test wants, and its keys can be replaced.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { exportJWK, generateKeyPair } from 'jose';
import Provider, { type JWK } from 'oidc-provider';
import { z } from 'zod';

export interface TestIssuer {
  readonly issuer: string;
  /** Requests for its keys so far. */
  readonly keyRequests: () => number;
  /** A JSON web token of the issuer for a client named `sub`. */
  token(claims?: TokenClaims): Promise<string>;
  /** From now on it signs with another key, and knows the old one no more. */
  rotate(): Promise<void>;
  /** From now on nobody listens at its address. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

interface TokenClaims {
  readonly audience?: string;
  readonly ttlSeconds?: number;
  readonly [claim: string]: unknown;
}

export const AUDIENCE = 'https://veneer.example';
const CLIENT = { client_id: 'alice', client_secret: 'a-secret-of-the-client' };
const tokenSchema = z.object({ access_token: z.string() });

export async function startIssuer(): Promise<TestIssuer> {
  let claims: TokenClaims = {};
  let keys = 0;
  let keyRequests = 0;
  let handle: ReturnType<Provider['callback']> | undefined;
  let server = await listen(0);
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const issuer = `http://127.0.0.1:${port}`;

  async function listen(at: number): Promise<Server> {
    const opened = createServer((request, response) => {
      if (request.url === '/jwks') keyRequests += 1;
      void handle?.(request, response);
    });
    opened.listen(at, '127.0.0.1');
    await once(opened, 'listening');
    return opened;
  }

  async function rotate(): Promise<void> {
    const key = await makeKey(`key-${keys}`);
    keys += 1;
    const provider = new Provider(issuer, {
      clients: [
        {
          ...CLIENT,
          grant_types: ['client_credentials'],
          response_types: [],
          redirect_uris: [],
          id_token_signed_response_alg: 'ES256',
          token_endpoint_auth_method: 'client_secret_post',
        },
      ],
      jwks: { keys: [key] },
      ttl: { ClientCredentials: () => claims.ttlSeconds ?? 600 },
      extraTokenClaims: () => {
        const { audience: _, ttlSeconds: __, ...extra } = claims;
        return extra;
      },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => 'urn:veneer',
          getResourceServerInfo: () => ({
            scope: '',
            audience: claims.audience ?? AUDIENCE,
            accessTokenTTL: claims.ttlSeconds ?? 600,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: 'ES256' } },
          }),
        },
      },
    });
    handle = provider.callback();
  }

  await rotate();
  return {
    issuer,
    keyRequests: () => keyRequests,
    rotate,
    async token(wanted = {}) {
      claims = wanted;
      const form = new URLSearchParams({ ...CLIENT, grant_type: 'client_credentials', resource: 'urn:veneer' });
      const response = await fetch(`${issuer}/token`, { method: 'POST', body: form });
      if (response.status !== 200) throw new Error(await response.text());
      return tokenSchema.parse(await response.json()).access_token;
    },
    async stop() {
      if (!server.listening) return;
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
    async start() {
      server = await listen(port);
    },
  };
}

async function makeKey(kid: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  return { ...(await exportJWK(privateKey)), kid, alg: 'ES256', use: 'sig', kty: 'EC' };
}
