// The grants of the configuration, as one decision.
import type { Caller } from './caller.ts';
import type { AccessOptions, Grant } from './options.ts';
import { createRightTest, findPatternFault, type RightTest, type Verb } from './right.ts';

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
export function createDecision(grants: readonly Grant[]): (caller: Caller, verb: Verb, repository: string) => boolean {
  const mayAnyone = createRightTest(grants.filter(({ anyone }) => anyone === true));
  const names = new Set(grants.flatMap(({ users = [] }) => users));
  const testsByUser: ReadonlyMap<string, RightTest> = new Map(
    [...names].map(name => [name, createRightTest(grants.filter(({ users }) => users?.includes(name)))]),
  );

  function mayItself(caller: Caller, verb: Verb, repository: string): boolean {
    switch (caller.kind) {
      case 'anonymous':
      case 'local':
        return false;
      case 'user':
        return testsByUser.get(caller.name)?.(verb, repository) ?? false;
      case 'access-token':
        return createRightTest(caller.permissions)(verb, repository);
      case 'bearer':
        return caller.access.some(entry => entry.repository === repository && entry.verbs.includes(verb));
    }
  }

  return (caller, verb, repository) => mayAnyone(verb, repository) || mayItself(caller, verb, repository);
}
