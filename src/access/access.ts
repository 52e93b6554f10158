// Access control: who callers are, and who may do what, decided in one place. Without configuration, this machine may do everything, and
// everyone else may pull.
import { RegistryError } from '../oci/errors.ts';
import { isLoopback } from './address.ts';
import type { PasswordCredentials } from './authorization.ts';
import type { Permission, RepositoryAccess, Right } from './right.ts';

/** Repositories are given by their normalised full name, such as `docker.io/library/alpine`, however a client wrote it. */
export interface Access {
  /** One line for the log: who may do what. */
  readonly summary: string;
  /** Whether callers on this machine may do everything, without credentials. */
  readonly isOpen: boolean;
  /** Throws UNAUTHORIZED for credentials that are wrong, TOOMANYREQUESTS after too many wrong passwords. */
  authenticate(request: AccessRequest): Promise<Caller>;
  isAllowed(caller: Caller, right: Right, repository: string): boolean;
  /**
   * Whether a secret is a token of ours or of our OIDC issuer, valid or not. Any other belongs to another service, and is not ours to
   * judge.
   */
  recognizes(secret: string): boolean;
  /**
   * Whether a caller identified earlier still has the right: a removed user or an expired access token has only anyone's rights; a user of
   * an OIDC issuer has the groups of the most recent token. Throws UNAVAILABLE while the users cannot be read.
   */
  mayStill(holder: TokenHolder, right: Right, repository: string): Promise<boolean>;
  /** The caller that now has the name of the holder, with its rights; anonymous if there is none. */
  findHolder(holder: TokenHolder): Promise<Caller>;
  /** Throws MissingRight: UNAUTHORIZED where other credentials could help, else DENIED. */
  requireRight(caller: Caller, right: Right, repository: string): void;
  /** Whether the caller may administer Veneer, which no right to repositories includes. */
  isAdmin(caller: Caller): boolean;
  /** Throws MissingRight: UNAUTHORIZED where credentials could help, else DENIED. */
  requireAdmin(caller: Caller): void;
  /** Throws MissingRight, UNAUTHORIZED, where callers must authenticate before anything else. */
  requireCaller(caller: Caller): void;
  /** Issues bearer tokens; undefined where none are needed. */
  readonly bearer: TokenIssuer | undefined;
  /** Browser sessions; undefined if logging in is not possible. */
  readonly sessions: Sessions | undefined;
  close(): Promise<void>;
}

/** The caller lacks a right. */
export class MissingRight extends RegistryError {
  /** The scope that a token would need; undefined where any login, or none, would do. */
  readonly needed: { readonly right: Right; readonly repository: string } | undefined;

  constructor(code: 'UNAUTHORIZED' | 'DENIED', message: string, needed?: MissingRight['needed']) {
    super(code, message);
    this.needed = needed;
  }
}

export interface AccessRequest {
  /** The Authorization header. */
  readonly authorization?: string | undefined;
  /** The address of the client. */
  readonly address?: string | undefined;
  /** The host requested by the client, without its port. */
  readonly host?: string | undefined;
  /** The Origin header: the web page that sent the request, if one did. */
  readonly origin?: string | undefined;
}

export interface Sessions {
  /** Throws as a log-in does: UNAUTHORIZED, TOOMANYREQUESTS after too many wrong passwords, UNAVAILABLE. */
  open(credentials: PasswordCredentials, address: string): Promise<Session>;
  /**
   * Undefined for a cookie that is not ours, has expired or was ended, or whose user or access token was removed or password changed.
   * Throws UNAVAILABLE while the users cannot be read.
   */
  find(cookie: string, address: string): Promise<Caller | undefined>;
  /** In this process: a copy of the cookie is useless from then on. */
  end(cookie: string): Promise<void>;
}

interface Session {
  /** The value of the cookie. */
  readonly cookie: string;
  /** The name of the caller; empty for one without. */
  readonly subject: string;
  readonly expiresAt: Date;
}

export interface TokenIssuer {
  /** Issues a token with those of the requested rights that the caller has, possibly none. Throws as `authenticate` does. */
  issue(request: BearerRequest): Promise<IssuedBearer>;
}

export interface BearerRequest {
  /** Absent: the token gets anyone's rights. Bearer tokens are not accepted, or they could renew themselves for ever. */
  readonly credentials?: PasswordCredentials | undefined;
  readonly address?: string | undefined;
  readonly asked: readonly RepositoryAccess[];
  /** Whether the scope `registry:catalog:*` is requested. */
  readonly asksForCatalog?: boolean | undefined;
}

export interface BearerToken {
  readonly token: string;
  readonly issuedAt: Date;
  readonly expiresInSeconds: number;
}

export interface IssuedBearer extends BearerToken {
  readonly granted: readonly RepositoryAccess[];
  /** The name of the caller; empty for one without. */
  readonly subject: string;
}

/** The `access` section of the configuration, validated when it was read, except for patterns and key. */
export interface AccessOptions {
  /** The path of a file of users with bcrypt hashes, as written by `htpasswd -B`. Without it there are no users. */
  readonly htpasswd?: string | undefined;
  /** The lifetime of a bearer token; at least a minute, as clients expect. */
  readonly tokenTtlMs: number;
  /** A private key, Ed25519 or P-256, as PEM or JWK. Without it one is generated, and stored in the data directory. */
  readonly signingKey?: string | undefined;
  /** The issuer whose tokens identify further users. */
  readonly oidc?: OidcOptions | undefined;
  /**
   * Keys that encrypt stored registry credentials: the first encrypts, all decrypt. Without any, one is generated in the data directory.
   */
  readonly credentialKeys?: readonly string[] | undefined;
  readonly grants: readonly Grant[];
}

/** The `access.oidc` part of the configuration. */
export interface OidcOptions {
  /** As its tokens write it in `iss`: https, or http on a loopback address. */
  readonly issuer: string;
  /** A token must be for one of them. */
  readonly audience: readonly string[];
  /** The claim whose text is the user's name. */
  readonly usernameClaim: string;
  /** The claim that lists the user's groups. */
  readonly groupsClaim: string;
  /** How far the clock of the issuer may be from ours. */
  readonly clockSkewMs: number;
}

/** Rights granted by the configuration to users by name or group, to clients in a network, or to anyone, authenticated or not. */
export interface Grant extends Permission {
  readonly users?: readonly string[] | undefined;
  /** Of users of the OIDC issuer. */
  readonly groups?: readonly string[] | undefined;
  /** In CIDR notation. */
  readonly networks?: readonly string[] | undefined;
  readonly anyone?: boolean | undefined;
}

/** Access cannot be set up because of an error in the configuration or in a file that it names. */
export class AccessFault extends Error {
  override readonly name = 'AccessFault';
  /** For the operator: each says what is wrong, where, and what would be right, and quotes no secret. */
  readonly faults: readonly string[];

  constructor(faults: readonly string[], options: ErrorOptions = {}) {
    super(`access cannot be set up:\n${faults.map(fault => `  ${fault}`).join('\n')}`, options);
    this.faults = faults;
  }
}

// Callers: the identity behind a request, as far as it is authenticated.

export type Caller = FromNetworks &
  (
    | { readonly kind: 'anonymous' }
    /** On this machine, while access is not configured and only loopback is listened on. */
    | { readonly kind: 'local' }
    | { readonly kind: 'user'; readonly name: string; readonly groups?: readonly string[] | undefined }
    | AccessTokenCaller
    | BearerCaller
  );

interface FromNetworks {
  /** Those of the grants' networks that its address is in; absent: none. */
  readonly networks?: readonly string[] | undefined;
}

/** What is recorded of a caller, so that its rights can be checked again later. */
export interface TokenHolder {
  /** See subjectOf. */
  readonly subject: string;
  readonly networks?: readonly string[] | undefined;
}

interface AccessTokenCaller {
  readonly kind: 'access-token';
  readonly id: string;
  readonly permissions: readonly Permission[];
  /** Whether it was issued to one of our builds. */
  readonly isBuild?: boolean | undefined;
}

/** Authenticated by one of our bearer tokens. */
export interface BearerCaller {
  readonly kind: 'bearer';
  readonly subject: string;
  /** Requested by its subject and granted. */
  readonly access: readonly RepositoryAccess[];
  /** Requested by its subject and refused: another token would not have it either. */
  readonly refused: readonly RepositoryAccess[];
  /** Whether it may list the repositories that its subject may pull, without a right to any of them. */
  readonly listsCatalog?: boolean | undefined;
}

/** A caller, and the address that its request comes from, if it is known. */
export interface Requester {
  readonly caller: Caller;
  readonly address: string | undefined;
  /** Called with the remaining allowance each time that something counts towards a rate limit, refused or not. */
  readonly onCounted?: ((state: RateState) => void) | undefined;
}

/** The remaining allowance of a rate limit; times in whole seconds. */
export interface RateState {
  /** What is counted, in the plural. */
  readonly name: string;
  readonly count: number;
  readonly perSeconds: number;
  readonly left: number;
  readonly resetSeconds: number;
}

export const ANONYMOUS: Caller = { kind: 'anonymous' };

const BUILD = 'build';

/** Prefix of the names of an OIDC issuer's users; names in a file of users contain no colon. */
export const OIDC_PREFIX = 'oidc:';

/** The name of a caller in bearer tokens. No user has a colon in its name, so it cannot be mistaken for a token's. */
export function subjectOf(caller: Caller): string {
  switch (caller.kind) {
    case 'anonymous':
    case 'local':
      return '';
    case 'user':
      return caller.name;
    case 'access-token':
      return `${caller.isBuild ? BUILD : 'token'}:${caller.id}`;
    case 'bearer':
      return caller.subject;
  }
}

/** The id of the access token of a subject; undefined for a user, and for anonymous. */
export function accessTokenOf(subject: string): string | undefined {
  return /^(?:token|build):(.+)$/.exec(subject)?.[1];
}

/** Whether it is one of our builds, by its access token or by a bearer token obtained with it. */
export function isBuild(caller: Caller): boolean {
  return subjectOf(caller).startsWith(`${BUILD}:`);
}

/** For messages and logs. */
export function describeCaller(caller: Caller): string {
  switch (caller.kind) {
    case 'anonymous':
      return 'an anonymous caller';
    case 'local':
      return 'a caller on this machine';
    case 'user':
      return `the user ${caller.name}`;
    case 'access-token':
      return `the access token ${caller.id}`;
    case 'bearer':
      return caller.subject ? `the bearer token of ${caller.subject}` : 'an anonymous bearer token';
  }
}

// Access without configuration.

const HINT = 'set "access" in veneer.yaml to change who may';

/** Credentials are ignored. `isOpen`: whether only this machine can reach us. */
export function createUnconfiguredAccess({ isOpen }: { readonly isOpen: boolean }): Access {
  const reason = isOpen ? 'only clients on this machine may' : 'nobody may';
  const access: Access = {
    isOpen,
    summary: isOpen
      ? `access is open: anyone on this machine may pull, push and delete; ${HINT}`
      : `access is for reading: anyone may pull, and nobody may push or delete; ${HINT}`,
    authenticate: async request => (isOpen && isLocal(request) ? { kind: 'local' } : ANONYMOUS),
    isAllowed: (caller, verb) => verb === 'pull' || caller.kind === 'local',
    recognizes: () => false,
    mayStill: async (_, verb) => verb === 'pull',
    findHolder: async () => ANONYMOUS,
    requireRight(caller, verb, repository) {
      if (access.isAllowed(caller, verb, repository)) return;
      const grant = `; a grant { users: [<name>], repositories: ["${repository}"], allow: [pull, build] } in it opens no pushes`;
      throw new MissingRight('DENIED', `${reason} ${verb} here: ${HINT}${verb === 'build' ? grant : ''}`);
    },
    isAdmin: caller => caller.kind === 'local',
    requireAdmin(caller) {
      if (!access.isAdmin(caller)) throw new MissingRight('DENIED', `${reason} administer here: ${HINT}`);
    },
    requireCaller() {},
    bearer: undefined,
    sessions: undefined,
    async close() {},
  };
  return access;
}

/** Browsers on this machine send requests for web pages, from any origin or to a name that an attacker points here. */
function isLocal({ address, host, origin }: AccessRequest): boolean {
  // Clients behind a trusted proxy on this machine have another address.
  const isHere = address === undefined || isLoopback(address);
  return isHere && host !== undefined && isLoopback(host) && origin === undefined;
}
