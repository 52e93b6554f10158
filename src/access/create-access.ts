// Sets up access control: by the configured grants; without any, this machine may do everything and everyone else may pull.
import { join } from 'node:path';
import type { Memory } from '../memory.ts';
import type { RecordStore } from '../state/store.ts';
import type { AccessFault } from './access.ts';
import { type Access, type AccessOptions, type AccessRequest, MissingRight } from './access.ts';
import { isLoopback } from './address.ts';
import type { Bcrypt } from './bcrypt.ts';
import { ANONYMOUS } from './caller.ts';
import { createGrantedAccess } from './granted.ts';

interface AccessDeps {
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
}

/** Throws AccessFault. The caller closes the result. */
export async function createAccess({ options, listenHost, publicHost, ...deps }: AccessDeps): Promise<Access> {
  if (options) return createGrantedAccess({ options, keyPath: join(deps.dataDir, 'signing-key.pem'), ...deps });
  // A public URL in front of a loopback address means a proxy on this machine: its clients are not local.
  return createUnconfiguredAccess({ isOpen: isLoopback(listenHost) && isLoopback(publicHost ?? listenHost) });
}

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
    async close() {},
  };
  return access;
}

/** Browsers on this machine send requests for web pages, from any origin or to a name that an attacker points here. */
function isLocal({ host, origin }: AccessRequest): boolean {
  return host !== undefined && isLoopback(host) && origin === undefined;
}
