// Access control: who may do what, decided in one place.
import { RegistryError } from '../oci/errors.ts';
import type { PasswordCredentials } from './authorization.ts';
import type { Caller, Holder } from './caller.ts';
import type { OidcOptions } from './oidc.ts';
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
   * Whether a secret is a token of ours or of our OIDC issuer, valid or not. Any other is a token of another service, which is no concern of ours.
   */
  recognizes(secret: string): boolean;
  /**
   * Whether the caller that was known like this a while ago has the right today: a user who was removed, or an access token that
   * has expired, has what anyone has; a user of an OIDC issuer has the groups of the last token. Throws UNAVAILABLE while the users cannot be read.
   */
  mayStill(holder: Holder, right: Right, repository: string): Promise<boolean>;
  /** Throws MissingRight: UNAUTHORIZED where other credentials could help, else DENIED. */
  requireRight(caller: Caller, right: Right, repository: string): void;
  /** Whether the caller may administer Veneer, which no right to repositories includes. */
  isAdmin(caller: Caller): boolean;
  /** Throws MissingRight: UNAUTHORIZED where credentials could help, else DENIED. */
  requireAdmin(caller: Caller): void;
  /** Throws MissingRight, UNAUTHORIZED, where callers must authenticate before anything else. */
  requireCaller(caller: Caller): void;
  /** Issues bearer tokens; undefined where nobody needs one. */
  readonly bearer: TokenIssuer | undefined;
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

export interface TokenIssuer {
  /** Issues a token with those of the requested rights that the caller has, possibly none. Throws as `authenticate` does. */
  issue(request: BearerRequest): Promise<IssuedBearer>;
}

export interface BearerRequest {
  /** Absent: the token gets anyone's rights. Bearer tokens are not accepted, or they could renew themselves for ever. */
  readonly credentials?: PasswordCredentials | undefined;
  readonly address?: string | undefined;
  readonly asked: readonly RepositoryAccess[];
}

export interface BearerToken {
  readonly token: string;
  readonly issuedAt: Date;
  readonly expiresInSeconds: number;
}

export interface IssuedBearer extends BearerToken {
  readonly granted: readonly RepositoryAccess[];
}

/** The `access` section of the configuration, validated when it was read, except for patterns and key. */
export interface AccessOptions {
  /** The path of a file of users with bcrypt hashes, as written by `htpasswd -B`. Without it there are no users. */
  readonly htpasswd?: string | undefined;
  /** The lifetime of a bearer token; at least a minute, as clients expect. */
  readonly tokenTtlMs: number;
  /** A private key, Ed25519 or P-256, as PEM or JWK. Without it one is generated, and stored in the data directory. */
  readonly signingKey?: string | undefined;
  /** Whose tokens name further users. */
  readonly oidc?: OidcOptions | undefined;
  /** What credentials of registries are sealed with; the first seals, all open. Without any one is made, and kept under the data directory. */
  readonly credentialKeys?: readonly string[] | undefined;
  readonly grants: readonly Grant[];
}

/** What the configuration allows, and to whom: to users by name or group, to whoever is in a network, or to anyone, known or not. */
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
