// Access by the configured grants: for users, access tokens, and the bearer tokens that both obtain.
import { join } from 'node:path';
import type { Memory } from '../memory.ts';
import { RegistryError } from '../oci/errors.ts';
import type { RecordStore } from '../state/store.ts';
import {
  type Access,
  AccessFault,
  type AccessOptions,
  ANONYMOUS,
  accessTokenOf,
  type Caller,
  createUnconfiguredAccess,
  describeCaller,
  type Grant,
  MissingRight,
  OIDC_PREFIX,
  subjectOf,
  type TokenHolder,
  type TokenIssuer,
} from './access.ts';
import { type AccessToken, createAccessTokens, isAccessToken } from './access-token.ts';
import { createNetworkTest, findNetworkFault, isLoopback } from './address.ts';
import { type PasswordCredentials, parseAuthorization } from './authorization.ts';
import { type Bcrypt, createBcrypt } from './bcrypt.ts';
import { createBearerTokens } from './bearer-token.ts';
import { loadSigningKey, parseSigningKey } from './keys.ts';
import { createOidcIssuer, createOidcUsers } from './oidc.ts';
import { createPasswords } from './passwords.ts';
import {
  createRightTest,
  findPatternFault,
  includesRight,
  mayAdminister,
  type RepositoryAccess,
  type Right,
  type RightTest,
} from './right.ts';
import { createSessions } from './sessions.ts';
import { openUserFile } from './user-file.ts';

/** Throws AccessFault. The caller closes the result. */
export async function createAccess({
  options,
  listenHost,
  publicHost,
  ...deps
}: {
  /** Absent: not configured. */
  readonly options: AccessOptions | undefined;
  readonly listenHost: string;
  /** The public host name, where one is configured. */
  readonly publicHost: string | undefined;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly dataDir: string;
  /** Called when the file of users becomes unusable while the service runs. */
  readonly onFault: (fault: AccessFault) => void;
  /** Called when the keys of the OIDC issuer cannot be fetched, once until they can again. */
  readonly onIssuerFault?: ((reason: string) => void) | undefined;
  readonly now: () => Date;
  /** Compares passwords, and is closed with the rest; default: in a thread. */
  readonly bcrypt?: Bcrypt;
}): Promise<Access> {
  if (options) return createGrantedAccess({ options, keyPath: join(deps.dataDir, 'signing-key.pem'), ...deps });
  // A public URL in front of a loopback address means a proxy on this machine: its clients are not local.
  return createUnconfiguredAccess({ isOpen: isLoopback(listenHost) && isLoopback(publicHost ?? listenHost) });
}

/** Throws AccessFault. */
async function createGrantedAccess({
  options,
  keyPath,
  ...deps
}: {
  readonly options: AccessOptions;
  readonly records: RecordStore;
  readonly memory: Memory;
  readonly onFault: (fault: AccessFault) => void;
  readonly onIssuerFault?: ((reason: string) => void) | undefined;
  readonly now: () => Date;
  readonly bcrypt?: Bcrypt;
  /** The directory of our own signing key, if none is configured. */
  readonly keyPath: string;
}): Promise<Access> {
  const { records, memory, onFault, onIssuerFault = () => {}, now, bcrypt = createBcrypt() } = deps;
  const { grants, htpasswd, signingKey, tokenTtlMs } = options;
  const faults = findGrantFaults(options);
  if (faults.length > 0) throw new AccessFault(faults);
  const key = signingKey ? parseSigningKey(signingKey, 'access.signingKey') : await loadSigningKey(keyPath);
  const users = htpasswd === undefined ? undefined : await openUserFile({ path: htpasswd, onFault });

  const issuer = options.oidc && createOidcIssuer({ options: options.oidc, now, onFault: onIssuerFault });
  const issuerUsers = createOidcUsers({ records, now });
  issuer?.warm();
  const networksOf = createNetworkTest(grants.flatMap(({ networks = [] }) => networks));
  const passwords = users && createPasswords({ users, bcrypt, now, records });
  const accessTokens = createAccessTokens({ records, now });
  const bearerTokens = createBearerTokens({ key, ttlMs: tokenTtlMs, memory, now });
  const isAllowed = createDecision(grants);
  const isAdmin = createAdminTest(grants);

  async function login(credentials: PasswordCredentials, address: string): Promise<Caller> {
    const { username, password } = credentials;
    if (isAccessToken(password)) return loginByToken(password);
    if (issuer?.recognizes(password)) return loginByIssuer(password);
    if (!(await passwords?.check(credentials, address))) throw wrongCredentials();
    return { kind: 'user', name: username };
  }

  async function loginByToken(secret: string): Promise<Caller> {
    const token = await accessTokens.find(secret);
    if (!token) throw wrongCredentials();
    return toCaller(token);
  }

  async function loginByIssuer(token: string): Promise<Caller> {
    if (!issuer) throw wrongCredentials();
    const user = await issuer.verify(token);
    await issuerUsers.see(user);
    return { kind: 'user', ...user };
  }

  /** Anonymous where the user or access token no longer exists. */
  async function findCaller(subject: string): Promise<Caller> {
    const id = accessTokenOf(subject);
    if (id !== undefined) return toCaller(await accessTokens.findById(id));
    if (subject.startsWith(OIDC_PREFIX)) return findIssuerUser(subject);
    return (await users?.read())?.has(subject) ? { kind: 'user', name: subject } : ANONYMOUS;
  }

  async function findIssuerUser(name: string): Promise<Caller> {
    const groups = issuer && (await issuerUsers.findGroups(name));
    return groups ? { kind: 'user', name, groups } : ANONYMOUS;
  }

  /** Adds what is granted to the caller's address. */
  function withNetworks(caller: Caller, address: string): Caller {
    const networks = networksOf(address);
    return networks.length > 0 ? { ...caller, networks } : caller;
  }

  async function identify(authorization: string | undefined, address: string): Promise<Caller> {
    const credentials = parseAuthorization(authorization);
    if (!credentials) return ANONYMOUS;
    if (credentials.kind === 'password') return login(credentials, address);
    // Clients of the augment API have no other way to send one.
    if (isAccessToken(credentials.token)) return loginByToken(credentials.token);
    if (issuer?.recognizes(credentials.token)) return loginByIssuer(credentials.token);
    return { kind: 'bearer', ...(await bearerTokens.verify(credentials.token)) };
  }

  const bearer: TokenIssuer = {
    async issue({ credentials, address = '', asked, asksForCatalog }) {
      const caller = credentials ? await login(credentials, address) : ANONYMOUS;
      const granted = selectVerbs(asked, (verb, repository) => isAllowed(caller, verb, repository));
      const refused = selectVerbs(asked, (verb, repository) => !isAllowed(caller, verb, repository));
      // Registry clients never request it.
      const mayBuild = ({ repository }: RepositoryAccess) => isAllowed(caller, 'build', repository);
      const access = granted.map(each =>
        mayBuild(each) ? { ...each, verbs: [...each.verbs, 'build' as const] } : each,
      );
      const claims = { subject: subjectOf(caller), access, refused, ...(asksForCatalog && { listsCatalog: true }) };
      return { ...(await bearerTokens.issue(claims)), granted, subject: claims.subject };
    },
  };

  const sessions = createSessions({
    ...{ key, records, login, now },
    findCaller: async (subject, address) => withNetworks(await findCaller(subject), address),
    findHash: async user => (await users?.read())?.get(user),
  });

  return {
    summary: summarise(grants),
    isOpen: false,
    bearer,
    sessions,
    isAllowed,
    recognizes: secret => isAccessToken(secret) || issuer?.recognizes(secret) === true,
    mayStill: async ({ subject, networks }: TokenHolder, verb, repository) =>
      isAllowed({ ...ANONYMOUS, networks }, verb, repository) || isAllowed(await findCaller(subject), verb, repository),
    findHolder: async ({ subject, networks }) => ({ ...(await findCaller(subject)), networks }),
    authenticate: async ({ authorization, address = '' }) =>
      withNetworks(await identify(authorization, address), address),
    requireRight(caller, verb, repository) {
      if (isAllowed(caller, verb, repository)) return;
      const code = isFinal(caller, verb, repository) ? 'DENIED' : 'UNAUTHORIZED';
      const remedy =
        code === 'DENIED'
          ? 'neither access.grants nor a token allows it'
          : 'log in as one whom access.grants allows it';
      const message = `${describeCaller(caller)} may not ${verb} ${repository.slice(0, 255)}: ${remedy}`;
      throw new MissingRight(code, message, { right: verb, repository });
    },
    isAdmin,
    requireAdmin(caller) {
      if (isAdmin(caller)) return;
      const isKnown = caller.kind !== 'anonymous';
      const remedy =
        'a grant of its own { users: [<name>], allow: [admin] }, or veneer token create --admin, grants it';
      throw new MissingRight(
        isKnown ? 'DENIED' : 'UNAUTHORIZED',
        `${describeCaller(caller)} may not administer, which no right to repositories includes: ${remedy}`,
      );
    },
    requireCaller(caller) {
      if (caller.kind === 'anonymous')
        throw new MissingRight('UNAUTHORIZED', 'this registry requires a login or a token: docker login');
    },
    close: () => bcrypt.close(),
  };
}

function summarise(grants: AccessOptions['grants']): string {
  const granted = `access: what is granted by configuration (grants: ${grants.length}) and by access tokens, and nothing else`;
  return mayAdminister(grants)
    ? granted
    : `${granted}; no grant allows admin, so that only access tokens may administer`;
}

function wrongCredentials(): RegistryError {
  return new RegistryError('UNAUTHORIZED', 'wrong user name or password, or access token expired or revoked');
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

/** A known caller is denied; an anonymous one may log in, and a bearer token may be exchanged for one with more rights. */
function isFinal(caller: Caller, right: Right, repository: string): boolean {
  if (caller.kind !== 'bearer') return caller.kind === 'user' || caller.kind === 'access-token';
  const wasRefused = caller.refused.some(entry => entry.repository === repository && includesRight(entry.verbs, right));
  return caller.subject !== '' && wasRefused;
}

/** Every fault of the grants, with its place in the configuration. */
export function findGrantFaults({ grants, htpasswd, oidc }: AccessOptions): readonly string[] {
  return grants.flatMap(({ users = [], groups = [], networks = [], repositories }, index) => {
    const path = `access.grants.${index}`;
    const [ofIssuer, ofFile] = [true, false].map(isOfIssuer =>
      users.some(user => user.startsWith(OIDC_PREFIX) === isOfIssuer),
    );
    const networkFaults = networks.flatMap((network, at) => {
      const fault = findNetworkFault(network);
      return fault === undefined ? [] : [`${path}.networks.${at}: ${fault}`];
    });
    const patternFaults = repositories.flatMap((pattern, at) => {
      const fault = findPatternFault(pattern);
      return fault === undefined ? [] : [`${path}.repositories.${at}: ${fault}`];
    });
    const missing = [
      ...(ofFile && htpasswd === undefined ? [`${path}.users: there are no users without access.htpasswd`] : []),
      ...(ofIssuer && !oidc ? [`${path}.users: names with ${OIDC_PREFIX} need access.oidc`] : []),
      ...(groups.length > 0 && !oidc ? [`${path}.groups: there are no groups without access.oidc`] : []),
    ];
    return [...missing, ...networkFaults, ...patternFaults];
  });
}

/** Every caller has anyone's rights. A bearer token adds what it was granted, and nothing else of its subject's rights. */
function createDecision(grants: readonly Grant[]): (caller: Caller, right: Right, repository: string) => boolean {
  const mayAnyone = createRightTest(grants.filter(({ anyone }) => anyone === true));
  const testsBy = (kind: 'users' | 'groups' | 'networks'): ReadonlyMap<string, RightTest> => {
    const names = new Set(grants.flatMap(grant => grant[kind] ?? []));
    return new Map(
      [...names].map(name => [name, createRightTest(grants.filter(grant => grant[kind]?.includes(name)))]),
    );
  };
  const byUser = testsBy('users');
  const byGroup = testsBy('groups');
  const byNetwork = testsBy('networks');

  function mayItself(caller: Caller, right: Right, repository: string): boolean {
    switch (caller.kind) {
      case 'anonymous':
      case 'local':
        return false;
      case 'user':
        return (
          byUser.get(caller.name)?.(right, repository) ||
          (caller.groups ?? []).some(group => byGroup.get(group)?.(right, repository))
        );
      case 'access-token':
        return createRightTest(caller.permissions)(right, repository);
      case 'bearer':
        return caller.access.some(entry => entry.repository === repository && includesRight(entry.verbs, right));
    }
  }

  const mayThere = ({ networks = [] }: Caller, right: Right, repository: string) =>
    networks.some(network => byNetwork.get(network)?.(right, repository));

  return (caller, right, repository) =>
    mayAnyone(right, repository) || mayItself(caller, right, repository) || mayThere(caller, right, repository);
}

/** A bearer token contains rights to repositories only. */
function createAdminTest(grants: readonly Grant[]): (caller: Caller) => boolean {
  const granting = grants.filter(grant => mayAdminister([grant]));
  const names = new Set(granting.flatMap(({ users = [] }) => users));
  const groups = new Set(granting.flatMap(({ groups = [] }) => groups));
  return caller => {
    switch (caller.kind) {
      case 'anonymous':
      case 'local':
      case 'bearer':
        return false;
      case 'user':
        return names.has(caller.name) || (caller.groups ?? []).some(group => groups.has(group));
      case 'access-token':
        return mayAdminister(caller.permissions);
    }
  };
}
