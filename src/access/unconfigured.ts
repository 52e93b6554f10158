// Access with no configuration: who is on this machine may do all, anyone else may pull, and credentials are not looked at.
import { RegistryError } from '../oci/errors.ts';
import type { Access, AccessRequest } from './access.ts';
import { ANONYMOUS } from './caller.ts';
import { isLoopback } from './loopback.ts';

const HINT = 'set "access" in veneer.yaml to say who may';

/** `isOpen`: whether only this machine can reach us. */
export function createUnconfiguredAccess({ isOpen }: { readonly isOpen: boolean }): Access {
  const reason = isOpen ? 'only clients on this machine may' : 'nobody may';
  const access: Access = {
    isOpen,
    summary: isOpen
      ? `access is open: anyone on this machine may pull, push and delete; ${HINT}`
      : `access is for reading: anyone may pull, and nobody may push or delete; ${HINT}`,
    authenticate: async request => (isOpen && isLocal(request) ? { kind: 'local' } : ANONYMOUS),
    isAllowed: (caller, verb) => verb === 'pull' || caller.kind === 'local',
    mayStill: async (_, verb) => verb === 'pull',
    requireRight(caller, verb, repository) {
      if (access.isAllowed(caller, verb, repository)) return;
      const grant = `; a grant { users: [<name>], repositories: ["${repository}"], allow: [pull, build] } in it opens no pushes`;
      throw new RegistryError('DENIED', `${reason} ${verb} here: ${HINT}${verb === 'build' ? grant : ''}`);
    },
    isAdmin: caller => caller.kind === 'local',
    requireAdmin(caller) {
      if (!access.isAdmin(caller)) throw new RegistryError('DENIED', `${reason} administer here: ${HINT}`);
    },
    requireCaller() {},
    bearer: undefined,
    async close() {},
  };
  return access;
}

/** A browser on this machine sends what pages of the web tell it to, from any origin or to a name of theirs that leads here. */
function isLocal({ host, origin }: AccessRequest): boolean {
  return host !== undefined && isLoopback(host) && origin === undefined;
}
