// Callers: who a request comes from, as far as authenticated.
import type { Permission, RepositoryAccess } from './right.ts';

export type Caller = FromNetworks &
  (
    | { readonly kind: 'anonymous' }
    /** On this machine, where nothing is configured and nobody else is listened to. */
    | { readonly kind: 'local' }
    | { readonly kind: 'user'; readonly name: string; readonly groups?: readonly string[] | undefined }
    | AccessTokenCaller
    | BearerCaller
  );

interface FromNetworks {
  /** Those of the grants' networks that its address is in; absent: none. */
  readonly networks?: readonly string[] | undefined;
}

/** What is recorded of a caller, so that its rights can be looked at later. */
export interface Holder {
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

/** With one of our bearer tokens. */
export interface BearerCaller {
  readonly kind: 'bearer';
  readonly subject: string;
  /** Requested by its subject and granted. */
  readonly access: readonly RepositoryAccess[];
  /** Requested by its subject and refused: another token would not have it either. */
  readonly refused: readonly RepositoryAccess[];
}

/** A caller, and the address that its request comes from, if it is known. */
export interface Requester {
  readonly caller: Caller;
  readonly address: string | undefined;
  /** Hears how much of a rate is left each time that something counts for it, refused or not. */
  readonly onCounted?: ((state: RateState) => void) | undefined;
}

/** How much of a rate is left, in whole seconds. */
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

/** Names of users that an OIDC issuer knows begin with it: no name in a file of users has a colon. */
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
