// Authenticates each request once, and checks rights for the routes. A 401 names the token endpoint in its challenge.
import type { IncomingMessage } from 'node:http';
import type { Context, MiddlewareHandler } from 'hono';
import { tryGetContext } from 'hono/context-storage';
import {
  type Access,
  type AccessRequest,
  ANONYMOUS,
  type Caller,
  isBuild,
  type MissingRight,
  type RateState,
  type Requester,
  subjectOf,
  type TokenHolder,
} from '../../access/access.ts';
import { type Challenge, formatChallenge } from '../../access/authorization.ts';
import { CATALOG_SCOPE, formatScope, type Right, verbs } from '../../access/right.ts';
import { RegistryError } from '../../oci/errors.ts';
import { findNamespace } from '../distribution/mirror.ts';

declare module 'hono' {
  interface ContextVariableMap {
    /** Set by createAuthentication. */
    rights: RequestRights;
  }
}

interface RequestRights {
  readonly access: Access;
  readonly caller: Caller;
  readonly realm: string;
}

interface RepositoryRight {
  readonly verb: Right;
  readonly repository: string;
}

/** Goes before the routes that check rights. Responds 401 to wrong credentials, even where none are needed. */
export function createAuthentication(deps: {
  readonly access: Access;
  /** The address of this service for clients; default: that of the request. */
  readonly publicUrl: string | undefined;
  /** The client address of a request, if known. */
  readonly addressOf: (c: Context) => string | undefined;
  /**
   * Whether a foreign bearer token makes the caller anonymous: clients of the augment API send tokens of another service.
   */
  readonly toleratesBearers?: boolean;
  /** For pages: finds the caller of the browser's session. Credentials in a header take precedence. */
  readonly findSession?: ((c: Context) => Promise<Caller | undefined>) | undefined;
}): MiddlewareHandler {
  const { access, publicUrl, addressOf, toleratesBearers = false, findSession } = deps;

  async function authenticate(request: AccessRequest): Promise<Caller> {
    try {
      return await access.authenticate(request);
    } catch (error) {
      const isForeign = toleratesBearers && isForeignBearer(access, request.authorization) && isUnauthorized(error);
      if (!isForeign) throw error;
      return access.authenticate({ ...request, authorization: undefined });
    }
  }

  return async (c, next) => {
    const url = new URL(c.req.url);
    const realm = new URL('/token', publicUrl ?? url).href;
    const authorization = c.req.header('Authorization');
    // Where pages are, the origin of a request was looked at before: it is our own.
    const origin = findSession ? undefined : c.req.header('Origin');
    try {
      const session = authorization === undefined ? await findSession?.(c) : undefined;
      const request = { authorization, address: addressOf(c), host: url.hostname, origin };
      const caller = session ?? (await authenticate(request));
      c.set('rights', { access, caller, realm });
    } catch (error) {
      throw challenge(c, error, {
        realm,
        scope: guessScope(c),
        error: isBearer(authorization) ? 'invalid_token' : undefined,
      });
    }
    await next();
  };
}

/**
 * Identifies a caller without credentials by the token in the body of a request, where clients of the augment API send tokens of another
 * service, which are ignored. Throws UNAUTHORIZED for an invalid token of ours or of our OIDC issuer.
 */
export async function identify(c: Context, towerAccessToken: string): Promise<void> {
  const rights = rightsOf(c);
  const isKnown = subjectOf(rights.caller) !== '' || !rights.access.bearer;
  if (isKnown || !rights.access.recognizes(towerAccessToken)) return;
  try {
    const caller = await rights.access.authenticate({
      authorization: `Bearer ${towerAccessToken}`,
      address: clientAddress(c),
    });
    c.set('rights', { ...rights, caller });
  } catch (error) {
    throw challenge(c, error, { realm: rights.realm });
  }
}

/**
 * Throws MissingRight unless the caller may. `repository` is the canonical full name of what the route accesses. A request without an
 * authenticated caller is rejected.
 */
export function requireRight(c: Context, verb: Right, repository: string): void {
  const { access, caller } = rightsOf(c);
  access.requireRight(caller, verb, repository);
}

/** Throws UNAUTHORIZED where callers must authenticate and this one has not: what `docker login` checks. */
export function requireCaller(c: Context): void {
  const { access, caller } = rightsOf(c);
  access.requireCaller(caller);
}

/** Throws MissingRight unless the caller may administer Veneer. */
export function requireAdmin(c: Context): void {
  const { access, caller } = rightsOf(c);
  access.requireAdmin(caller);
}

/** Adds the challenge for the token that would suffice, where a missing right becomes a 401. */
export function setChallenge(c: Context, error: MissingRight): void {
  const { caller, realm } = rightsOf(c);
  const catalog = c.req.path === '/v2/_catalog' ? CATALOG_SCOPE : undefined;
  if (!error.needed) return void challenge(c, error, { realm, scope: catalog });
  const { right, repository } = error.needed;
  // Clients cannot push what they may not read.
  const scope = formatScope({ repository, verbs: right === 'push' || right === 'build' ? ['pull', 'push'] : [right] });
  challenge(c, error, { realm, scope, error: caller.kind === 'bearer' ? 'insufficient_scope' : undefined });
}

export function isAdmin(c: Context): boolean {
  const { access, caller } = rightsOf(c);
  return access.isAdmin(caller);
}

/** Whether the caller may; for decisions that do not reject the request, such as a mount. */
export function hasRight(c: Context, verb: Right, repository: string): boolean {
  const { access, caller } = rightsOf(c);
  return access.isAllowed(caller, verb, repository);
}

/** Whether the caller may list a repository: one that it may pull, or that its subject may where its token has the scope of the catalog. */
export async function createListTest(c: Context): Promise<(repository: string) => boolean> {
  const { access, caller } = rightsOf(c);
  const mayPull = (each: Caller, repository: string) => access.isAllowed(each, 'pull', repository);
  if (caller.kind !== 'bearer' || !caller.listsCatalog) return repository => mayPull(caller, repository);
  const holder = await access.findHolder(caller);
  return repository => mayPull(caller, repository) || mayPull(holder, repository);
}

/** Whether a token's caller still has the right. */
export function stillHasRight(c: Context, holder: TokenHolder, right: RepositoryRight): Promise<boolean> {
  return rightsOf(c).access.mayStill(holder, right.verb, right.repository);
}

export function callerOf(c: Context): Caller {
  return rightsOf(c).caller;
}

/** The caller's name; undefined for an unnamed caller. */
export function callerName(c: Context): string | undefined {
  return subjectOf(callerOf(c)) || undefined;
}

export function requesterOf(c: Context): Requester {
  return { caller: callerOf(c), address: clientAddress(c), onCounted: state => setRateHeaders(c, state) };
}

/** The requester of the current request, where `contextStorage` knows it; undefined outside of any. */
export function findRequester(): Requester | undefined {
  const c: Context | undefined = tryGetContext();
  if (!c) return undefined;
  const caller = c.get('rights')?.caller ?? ANONYMOUS;
  return { caller, address: clientAddress(c), onCounted: state => setRateHeaders(c, state) };
}

/** As in draft-ietf-httpapi-ratelimit-headers-10: a request may count towards several limits. */
function setRateHeaders(c: Context, { name, count, perSeconds, left, resetSeconds }: RateState): void {
  // Headers set here survive whatever response a route returns, unlike those set by c.header.
  c.res.headers.append('RateLimit-Policy', `"${name}";q=${count};w=${perSeconds}`);
  c.res.headers.append('RateLimit', `"${name}";r=${left};t=${resetSeconds}`);
}

/** Whether the caller is one of our builds. */
export function isBuilder(c: Context): boolean {
  return isBuild(callerOf(c));
}

function rightsOf(c: Context): RequestRights {
  const rights = c.get('rights');
  if (!rights) throw new Error('this route checks rights, but no authentication runs before it');
  return rights;
}

/** Returns the error, and sets the headers of a 401. */
function challenge(c: Context, error: unknown, parameters: Challenge): unknown {
  if (isUnauthorized(error)) {
    c.header('WWW-Authenticate', formatChallenge(parameters));
    c.header('Docker-Distribution-Api-Version', 'registry/2.0');
  }
  return error;
}

/** The path is decoded, and an invalid name must not get into a header. */
const NAME_IN_PATH = /^\/v2\/([\w./:-]+)\/(?:manifests|blobs|tags|referrers)\//;

/** The likely scope of a request with wrong credentials: a hint for its next token, not a decision. */
function guessScope(c: Context): string | undefined {
  const [, name] = NAME_IN_PATH.exec(c.req.path) ?? [];
  const namespace = findNamespace(c);
  const repository = name && namespace ? `${namespace}/${name}` : name;
  const isRead = c.req.method === 'GET' || c.req.method === 'HEAD';
  return repository && formatScope({ repository, verbs: isRead ? ['pull'] : verbs });
}

function isUnauthorized(error: unknown): boolean {
  return error instanceof RegistryError && error.status === 401;
}

/** An expired token of ours, or of our issuer, does not count as another service's. */
function isForeignBearer(access: Access, authorization: string | undefined): boolean {
  const [, token] = /^bearer +(\S*)/i.exec(authorization ?? '') ?? [];
  return token !== undefined && !access.recognizes(token);
}

function isBearer(authorization: string | undefined): boolean {
  return /^bearer /i.test(authorization ?? '');
}

/**
 * The client's address: the peer of the socket, or the client reported by a trusted proxy. Undefined for a request that did not arrive over
 * a socket.
 */
export function clientAddress(c: Context<{ Bindings: { readonly incoming?: IncomingMessage } }>): string | undefined {
  // There is no environment at all where the app is called in process.
  return c.get('request')?.address ?? c.env?.incoming?.socket.remoteAddress;
}
