// The grants of the configuration, as one decision.
import type { Caller } from './caller.ts';
import type { AccessOptions, Grant } from './options.ts';
import {
  createRightTest,
  findPatternFault,
  includesRight,
  mayAdminister,
  type Right,
  type RightTest,
} from './right.ts';

/** Every fault of the grants, with its place in the configuration. */
export function findGrantFaults({ grants, htpasswd }: AccessOptions): readonly string[] {
  return grants.flatMap(({ users, repositories }, index) => {
    const place = `access.grants.${index}`;
    const lacksUsers = users !== undefined && htpasswd === undefined;
    const patternFaults = repositories.flatMap((pattern, at) => {
      const fault = findPatternFault(pattern);
      return fault === undefined ? [] : [`${place}.repositories.${at}: ${fault}`];
    });
    return [...(lacksUsers ? [`${place}.users: there are no users without access.htpasswd`] : []), ...patternFaults];
  });
}

/** What anyone may, each caller may too. A bearer token adds what it was given, and nothing else that its subject may. */
export function createDecision(
  grants: readonly Grant[],
): (caller: Caller, right: Right, repository: string) => boolean {
  const mayAnyone = createRightTest(grants.filter(({ anyone }) => anyone === true));
  const names = new Set(grants.flatMap(({ users = [] }) => users));
  const testsByUser: ReadonlyMap<string, RightTest> = new Map(
    [...names].map(name => [name, createRightTest(grants.filter(({ users }) => users?.includes(name)))]),
  );

  function mayItself(caller: Caller, right: Right, repository: string): boolean {
    switch (caller.kind) {
      case 'anonymous':
      case 'local':
        return false;
      case 'user':
        return testsByUser.get(caller.name)?.(right, repository) ?? false;
      case 'access-token':
        return createRightTest(caller.permissions)(right, repository);
      case 'bearer':
        return caller.access.some(entry => entry.repository === repository && includesRight(entry.verbs, right));
    }
  }

  return (caller, right, repository) => mayAnyone(right, repository) || mayItself(caller, right, repository);
}

/** A bearer token holds rights to repositories, and no other. */
export function createAdminTest(grants: readonly Grant[]): (caller: Caller) => boolean {
  const names = new Set(grants.filter(grant => mayAdminister([grant])).flatMap(({ users = [] }) => users));
  return caller => {
    switch (caller.kind) {
      case 'anonymous':
      case 'local':
      case 'bearer':
        return false;
      case 'user':
        return names.has(caller.name);
      case 'access-token':
        return mayAdminister(caller.permissions);
    }
  };
}
