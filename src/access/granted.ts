// Access by the configured grants: for users, for access tokens, and for the bearer tokens that both get.
import { RegistryError } from '../oci/errors.ts';
import type { RecordStore } from '../state/store.ts';
import type { Access, BearerDesk } from './access.ts';
import { type AccessToken, createAccessTokens, isAccessToken } from './access-token.ts';
import { type PasswordCredentials, parseAuthorization } from './authorization.ts';
import { type Bcrypt, createBcrypt } from './bcrypt.ts';
import { createBearerTokens } from './bearer-token.ts';
import { ANONYMOUS, accessTokenOf, type Caller, describeCaller, type RepositoryAccess, subjectOf } from './caller.ts';
import { AccessFault } from './fault.ts';
import { createDecision, findGrantFaults } from './grants.ts';
import type { AccessOptions } from './options.ts';
import { createPasswords } from './passwords.ts';
import type { RightTest, Verb } from './right.ts';
import { loadSigningKey, parseSigningKey } from './signing-key.ts';
import { openUserFile } from './user-file.ts';

export interface GrantedAccessDeps {
  readonly options: AccessOptions;
  readonly records: RecordStore;
  readonly onFault: (fault: AccessFault) => void;
  readonly now: () => Date;
  readonly bcrypt?: Bcrypt;
  /** Where our own signing key is, if none is configured. */
  readonly keyPath: string;
}

/** Throws AccessFault. */
export async function createGrantedAccess({ options, keyPath, ...deps }: GrantedAccessDeps): Promise<Access> {
  const { records, onFault, now, bcrypt = createBcrypt() } = deps;
  const { grants, htpasswd, signingKey, tokenTtlMs } = options;
  const faults = findGrantFaults(options);
  if (faults.length > 0) throw new AccessFault(faults);
  const key = signingKey ? parseSigningKey(signingKey, 'access.signingKey') : await loadSigningKey(keyPath);
  const users = htpasswd === undefined ? undefined : await openUserFile({ path: htpasswd, onFault });

  const passwords = users && createPasswords({ users, bcrypt, now });
  const accessTokens = createAccessTokens({ records, now });
  const bearerTokens = createBearerTokens({ key, ttlMs: tokenTtlMs, now });
  const isAllowed = createDecision(grants);

  async function login(credentials: PasswordCredentials, address: string): Promise<Caller> {
    const { username, password } = credentials;
    if (isAccessToken(password)) {
      const token = await accessTokens.find(password);
      if (token) return toCaller(token);
    } else if (await passwords?.check(credentials, address)) {
      return { kind: 'user', name: username };
    }
    throw new RegistryError('UNAUTHORIZED', 'wrong user name or password, or an access token that is no more');
  }

  /** Nobody, where it is no more. */
  async function findCaller(subject: string): Promise<Caller> {
    const id = accessTokenOf(subject);
    if (id !== undefined) return toCaller(await accessTokens.findById(id));
    return (await users?.read())?.has(subject) ? { kind: 'user', name: subject } : ANONYMOUS;
  }

  const bearer: BearerDesk = {
    async issue({ credentials, address = '', asked }) {
      const caller = credentials ? await login(credentials, address) : ANONYMOUS;
      const granted = selectVerbs(asked, (verb, repository) => isAllowed(caller, verb, repository));
      const refused = selectVerbs(asked, (verb, repository) => !isAllowed(caller, verb, repository));
      const claims = { subject: subjectOf(caller), access: granted, refused };
      return { ...(await bearerTokens.issue(claims)), granted };
    },
  };

  return {
    summary: `access: what is granted by configuration (grants: ${grants.length}) and by access tokens, and nothing else`,
    isOpen: false,
    bearer,
    isAllowed,
    mayStill: async (subject, verb, repository) =>
      isAllowed(ANONYMOUS, verb, repository) || isAllowed(await findCaller(subject), verb, repository),
    async authenticate({ authorization, address = '' }) {
      const credentials = parseAuthorization(authorization);
      if (!credentials) return ANONYMOUS;
      if (credentials.kind === 'password') return login(credentials, address);
      return { kind: 'bearer', ...(await bearerTokens.verify(credentials.token)) };
    },
    requireRight(caller, verb, repository) {
      if (isAllowed(caller, verb, repository)) return;
      const code = isFinal(caller, verb, repository) ? 'DENIED' : 'UNAUTHORIZED';
      throw new RegistryError(code, `${describeCaller(caller)} may not ${verb} ${repository.slice(0, 255)}`);
    },
    requireCaller(caller) {
      if (caller.kind === 'anonymous')
        throw new RegistryError('UNAUTHORIZED', 'this registry wants a login or a token');
    },
    close: () => bcrypt.close(),
  };
}

function toCaller(token: AccessToken | undefined): Caller {
  if (!token) return ANONYMOUS;
  const { id, permissions, isBuild } = token;
  return { kind: 'access-token', id, permissions, isBuild };
}

function selectVerbs(asked: readonly RepositoryAccess[], isSelected: RightTest): readonly RepositoryAccess[] {
  return asked
    .map(({ repository, verbs }) => ({ repository, verbs: verbs.filter(verb => isSelected(verb, repository)) }))
    .filter(({ verbs }) => verbs.length > 0);
}

/** Who is known gets a plain no; who is not may log in, and a bearer token may be exchanged for one with more in it. */
function isFinal(caller: Caller, verb: Verb, repository: string): boolean {
  if (caller.kind !== 'bearer') return caller.kind === 'user' || caller.kind === 'access-token';
  const wasRefused = caller.refused.some(entry => entry.repository === repository && entry.verbs.includes(verb));
  return caller.subject !== '' && wasRefused;
}
