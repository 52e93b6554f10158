// The servers that benchmarks share, and a folder for each benchmark.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Environment } from './benchmark.ts';
import type { Side } from './comparison.ts';
import type { Server } from './processes.ts';
import { type Pair, startPeer, startProxies, stopPair } from './registries.ts';

const NAME = 'bench/app';

/** Makes the environment of each benchmark. All that they share is on the stack. */
export async function prepareEnvironments(
  stack: AsyncDisposableStack,
): Promise<(stack: AsyncDisposableStack) => Promise<Environment>> {
  const root = await mkdtemp(join(tmpdir(), 'veneer-bench-'));
  stack.defer(() => rm(root, { recursive: true, force: true }));
  const upstream = once(async () =>
    stack.adopt(await startPeer({ directory: join(root, 'upstream') }), server => server.stop()),
  );
  const proxies = once(async () => stack.adopt(await startProxies(join(root, 'proxies'), await upstream()), stopPair));
  return async own => {
    const directory = await mkdtemp(join(root, 'lab-'));
    own.defer(() => rm(directory, { recursive: true, force: true }));
    return { directory, stack: own, upstream, proxies };
  };
}

/** The address of the repository that benchmarks push to. */
export function repositoryAt({ address }: Server): string {
  return `http://${address}/v2/${NAME}`;
}

/** Its addresses through proxies. */
export function repositoriesOf({ veneer, peer }: Pair): Record<Side, string> {
  return { veneer: `http://${veneer.address}/v2/lab/${NAME}`, peer: repositoryAt(peer) };
}

/** Its names: at the upstream, and at Veneer. */
export const NAMES = { peer: NAME, veneer: `lab/${NAME}` } as const;

function once<T>(start: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | undefined;
  return () => (started ??= start());
}
