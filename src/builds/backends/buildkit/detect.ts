// A BuildKit on this machine, or where BUILDKIT_HOST says.
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Backend, BackendUnavailable } from '../../backend.ts';
import type { Detect, DetectOptions } from '../../detect.ts';
import type { Environment } from '../../environment.ts';
import { createBuildkitBackend } from './backend.ts';

const ROOT_SOCKET = '/run/buildkit/buildkitd.sock';

interface BuildkitDetectOptions {
  readonly command?: string;
  /** Where a BuildKit of root listens. */
  readonly rootSocket?: string;
}

/** Gives the first that answers: BUILDKIT_HOST alone where it is set, else the sockets that BuildKit has by default. */
export function detectBuildkit({ command, rootSocket = ROOT_SOCKET }: BuildkitDetectOptions = {}): Detect {
  return async options => {
    const addresses = await listAddresses(options.environment, rootSocket);
    if (addresses.length === 0) options.onMiss(`BuildKit: BUILDKIT_HOST is not set, and there is no ${rootSocket}`);
    for (const address of addresses) {
      const backend = createBuildkitBackend({ name: 'buildkit', address, command, environment: options.environment });
      if (await answers(backend, options)) return backend;
    }
    return undefined;
  };
}

async function listAddresses(environment: Environment, rootSocket: string): Promise<readonly string[]> {
  if (environment.BUILDKIT_HOST) return [environment.BUILDKIT_HOST];
  const runtime = environment.XDG_RUNTIME_DIR;
  const sockets = [rootSocket, ...(runtime ? [join(runtime, 'buildkit', 'buildkitd.sock')] : [])];
  const found = await Promise.all(sockets.map(async path => ((await isSocket(path)) ? [`unix://${path}`] : [])));
  return found.flat();
}

async function isSocket(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isSocket();
  } catch {
    // Not there or not ours to see: no BuildKit for us.
    return false;
  }
}

async function answers(backend: Backend, { signal, onMiss }: DetectOptions): Promise<boolean> {
  try {
    await backend.listPlatforms(signal);
    return true;
  } catch (error) {
    if (!(error instanceof BackendUnavailable)) throw error;
    onMiss(error.message);
    return false;
  }
}
