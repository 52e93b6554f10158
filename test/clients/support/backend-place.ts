// A real builder in the lab: where it is tested, and what all of them have to show beside their contract.
import type { Backend } from '../../../src/builds/backend.ts';
import type { BackendPlace, Bench } from '../../support/build-bench.ts';
import { startGuardedRegistry } from './guarded-registry.ts';
import type { Lab } from './lab.ts';

/** The lab ends with it. */
export async function createBackendPlace(lab: Lab, backend: Backend): Promise<BackendPlace> {
  const { address, credentials } = await lab.keep(startGuardedRegistry(lab.folder));
  return {
    backend,
    folder: lab.folder,
    registry: lab.registry,
    base: lab.source,
    guarded: { registry: address, credentials },
    close: lab.close,
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
