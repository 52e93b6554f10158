// Who may do what: the one place that is asked.
import type { PasswordCredentials } from './authorization.ts';
import type { BearerToken } from './bearer-token.ts';
import type { Caller, RepositoryAccess } from './caller.ts';
import type { Right } from './right.ts';

/** A repository is always taken by its one full name, such as `docker.io/library/alpine`, however a client wrote it. */
export interface Access {
  /** One line for the log: who may do what. */
  readonly summary: string;
  /** Whether callers on this machine may do all, with no credentials. */
  readonly isOpen: boolean;
  /** Throws UNAUTHORIZED for credentials that are wrong, TOOMANYREQUESTS after too many wrong passwords. */
  authenticate(request: AccessRequest): Promise<Caller>;
  isAllowed(caller: Caller, right: Right, repository: string): boolean;
  /**
   * Whether who was known by this subject (subjectOf) a while ago has the right today: a user who was taken out, or an access token that has
   * ended, has what anyone has. Throws UNAVAILABLE while the users cannot be read.
   */
  mayStill(subject: string, right: Right, repository: string): Promise<boolean>;
  /** Throws UNAUTHORIZED where other credentials could help, else DENIED. */
  requireRight(caller: Caller, right: Right, repository: string): void;
  /** Whether the caller may look after Veneer, which no right to repositories includes. */
  isAdmin(caller: Caller): boolean;
  /** Throws UNAUTHORIZED where credentials could help, else DENIED. */
  requireAdmin(caller: Caller): void;
  /** Throws UNAUTHORIZED where a caller has to show who it is before anything else. */
  requireCaller(caller: Caller): void;
  /** Gives out bearer tokens; undefined where nobody needs one. */
  readonly bearer: BearerDesk | undefined;
  close(): Promise<void>;
}

export interface AccessRequest {
  /** The Authorization header. */
  readonly authorization?: string | undefined;
  /** The address that the request comes from. */
  readonly address?: string | undefined;
  /** The host that the client asked for, without its port. */
  readonly host?: string | undefined;
  /** The Origin header: which page of the web sent the request, if one did. */
  readonly origin?: string | undefined;
}

export interface BearerDesk {
  /** A token with what the caller may of what it asks for, which may be nothing. Throws as `authenticate` does. */
  issue(request: BearerRequest): Promise<IssuedBearer>;
}

export interface BearerRequest {
  /** Absent: the token will hold what anyone may. A bearer token is no such credential, else it could get itself another as it ends. */
  readonly credentials?: PasswordCredentials | undefined;
  readonly address?: string | undefined;
  readonly asked: readonly RepositoryAccess[];
}

export interface IssuedBearer extends BearerToken {
  readonly granted: readonly RepositoryAccess[];
}
