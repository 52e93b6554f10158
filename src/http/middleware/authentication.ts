// Who a request comes from, found once, and its rights, which the routes ask for. A 401 says where a token is to be had.
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
import { formatScope, type Right, verbs } from '../../access/right.ts';
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

/** Goes before the routes that ask for rights. Answers 401 to wrong credentials, also where nobody needs any. */
export function createAuthentication(deps: {
  readonly access: Access;
  /** Where clients reach us; without it, as the request was addressed. */
  readonly publicUrl: string | undefined;
  /** The address that a request comes from, if it is known. */
  readonly addressOf: (c: Context) => string | undefined;
  /** Whether a bearer token that is none of ours makes an anonymous caller: clients of the augment API send another service's. */
  readonly toleratesBearers?: boolean;
}): MiddlewareHandler {
  const { access, publicUrl, addressOf, toleratesBearers = false } = deps;

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
    const origin = c.req.header('Origin');
    try {
      const caller = await authenticate({ authorization, address: addressOf(c), host: url.hostname, origin });
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
 * Identifies a caller without credentials of ours by the token in the body of a request: where clients of the augment API have one of
 * another service, which is nothing to us. Throws UNAUTHORIZED for one of ours, or of our OIDC issuer, that is not valid.
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
 * Throws MissingRight unless the caller may. `repository` is the one full name of what the route is about to touch. A route that was not given a
 * caller is refused.
 */
export function requireRight(c: Context, verb: Right, repository: string): void {
  const { access, caller } = rightsOf(c);
  access.requireRight(caller, verb, repository);
}

/** Throws UNAUTHORIZED where callers have to show who they are, and this one has not: what `docker login` looks for. */
export function requireCaller(c: Context): void {
  const { access, caller } = rightsOf(c);
  access.requireCaller(caller);
}

/** Throws MissingRight unless the caller may administer Veneer. */
export function requireAdmin(c: Context): void {
  const { access, caller } = rightsOf(c);
  access.requireAdmin(caller);
}

/** Of an error that becomes a 401 for want of a right: the challenge that says which token would do. */
export function setChallenge(c: Context, error: MissingRight): void {
  const { caller, realm } = rightsOf(c);
  if (!error.needed) return void challenge(c, error, { realm });
  const { right, repository } = error.needed;
  // Clients cannot push what they may not look at.
  const scope = formatScope({ repository, verbs: right === 'push' || right === 'build' ? ['pull', 'push'] : [right] });
  challenge(c, error, { realm, scope, error: caller.kind === 'bearer' ? 'insufficient_scope' : undefined });
}

export function isAdmin(c: Context): boolean {
  const { access, caller } = rightsOf(c);
  return access.isAdmin(caller);
}

/** Whether the caller may; for choices that are no refusal, such as a mount. */
export function hasRight(c: Context, verb: Right, repository: string): boolean {
  const { access, caller } = rightsOf(c);
  return access.isAllowed(caller, verb, repository);
}

/** Whether who once asked for something has the right today. */
export function stillHasRight(c: Context, holder: TokenHolder, right: RepositoryRight): Promise<boolean> {
  return rightsOf(c).access.mayStill(holder, right.verb, right.repository);
}

export function callerOf(c: Context): Caller {
  return rightsOf(c).caller;
}

/** What the caller is called; undefined for one who has no name. */
export function callerName(c: Context): string | undefined {
  return subjectOf(callerOf(c)) || undefined;
}

export function requesterOf(c: Context): Requester {
  return { caller: callerOf(c), address: clientAddress(c), onCounted: state => setRateHeaders(c, state) };
}

/** Whose request is being served, where `contextStorage` knows it; undefined outside of any. */
export function findRequester(): Requester | undefined {
  const c: Context | undefined = tryGetContext();
  if (!c) return undefined;
  const caller = c.get('rights')?.caller ?? ANONYMOUS;
  return { caller, address: clientAddress(c), onCounted: state => setRateHeaders(c, state) };
}

/** As draft-ietf-httpapi-ratelimit-headers-10 has it: several rates may count one request. */
function setRateHeaders(c: Context, { name, count, perSeconds, left, resetSeconds }: RateState): void {
  // These stay whatever response a route returns, which those of c.header do not.
  c.res.headers.append('RateLimit-Policy', `"${name}";q=${count};w=${perSeconds}`);
  c.res.headers.append('RateLimit', `"${name}";r=${left};t=${resetSeconds}`);
}

/** Whether the caller is a build of ours. */
export function isBuilder(c: Context): boolean {
  return isBuild(callerOf(c));
}

function rightsOf(c: Context): RequestRights {
  const rights = c.get('rights');
  if (!rights) throw new Error('this route asks for rights, and no authentication goes before it');
  return rights;
}

/** Gives the error back, and the response the headers that belong to a 401. */
function challenge(c: Context, error: unknown, parameters: Challenge): unknown {
  if (isUnauthorized(error)) {
    c.header('WWW-Authenticate', formatChallenge(parameters));
    c.header('Docker-Distribution-Api-Version', 'registry/2.0');
  }
  return error;
}

/** The path is decoded, and a name that is none has no place in a header. */
const NAME_IN_PATH = /^\/v2\/([\w./:-]+)\/(?:manifests|blobs|tags|referrers)\//;

/** What a request with wrong credentials may have wanted: a hint for its next token, and no decision. */
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

/** A token of ours, or of our issuer, that has expired is not taken for another service's. */
function isForeignBearer(access: Access, authorization: string | undefined): boolean {
  const [, token] = /^bearer +(\S*)/i.exec(authorization ?? '') ?? [];
  return token !== undefined && !access.recognizes(token);
}

function isBearer(authorization: string | undefined): boolean {
  return /^bearer /i.test(authorization ?? '');
}

/** Where a request comes from: the peer of the socket, or the client of a proxy that is trusted. Undefined where it did not come over a socket. */
export function clientAddress(c: Context<{ Bindings: { readonly incoming?: IncomingMessage } }>): string | undefined {
  // There is no environment at all where the app is called in process.
  return c.get('request')?.address ?? c.env?.incoming?.socket.remoteAddress;
}
