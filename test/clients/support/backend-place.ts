// A real builder in the environment: where it is tested, and what all of them have to show beside their contract.
import type { Backend } from '../../../src/builds/backend.ts';
import type { BackendPlace, Bench } from '../../support/build-bench.ts';
import type { Environment } from './environment.ts';
import { startGuardedRegistry } from './guarded-registry.ts';

/** The environment ends with it. */
export async function createBackendPlace(environment: Environment, backend: Backend): Promise<BackendPlace> {
  const { address, credentials } = await environment.keep(startGuardedRegistry(environment.folder));
  return {
    backend,
    folder: environment.folder,
    registry: environment.registry,
    base: environment.source,
    guarded: { registry: address, credentials },
    close: environment.close,
  };
}

/** Builds on a base whose tag has moved since the plan: for each image the last variable, which says what it was built on. */
export async function buildOnMovedBase(bench: Bench, platforms?: readonly string[]) {
  const base = `${bench.place.registry}/bases/moved:1`;
  const pushBase = async (version: string) => {
    const containerFile = `FROM ${bench.place.base}\nENV VERSION=${version}\n`;
    return (await bench.build({ containerFile, image: base, ...(platforms && { platforms }) })).digest;
  };
  const planned = await pushBase('planned');
  await pushBase('later');
  const spec = { bases: { [base]: planned } };
  const { pushed } = await bench.build({ containerFile: `FROM ${base}\n`, spec, ...(platforms && { platforms }) });
  return pushed.images.map(({ env }) => env.at(-1));
}
