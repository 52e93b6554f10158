// Cache administration from the command line: directly in the data directory if no service has it open, else through the service.
import { resolve } from 'node:path';
import type { CacheAdmin } from '../cache/admin/cache-admin.ts';
import { type CacheLine, cacheLineSchema } from '../cache/admin/lines.ts';
import { type DirectoryLock, isDataDirectory, tryLockDirectory } from '../state/data-directory.ts';
import {
  type Hints,
  linesOf,
  parseJson,
  refusalOf,
  type Service,
  ServiceRefused,
  sendRequest,
} from './service/service.ts';

interface OpenedCacheAdmin extends CacheAdmin {
  close(): Promise<void>;
}

export interface CacheTarget {
  readonly dataDir: string;
  /** Opens the data directory. Called with its lock held. */
  readonly openCacheAdmin: () => Promise<OpenedCacheAdmin>;
  /** The service that uses the data directory; absent where its address is not configured. */
  readonly service: Service | undefined;
}

/** A command, in both forms. */
export interface CacheCommand {
  readonly ask: (admin: CacheAdmin) => AsyncGenerator<CacheLine>;
  readonly method: 'GET' | 'POST';
  /** Below `/v1/cache/`. */
  readonly path: string;
}

const HINT = 'set VENEER_TOKEN to a token made with --admin';
const HINTS: Hints = { 401: HINT, 403: HINT };
const ADVICE = 'try again; what was done so far is not lost';

/** The lines of the response. Throws ServiceRefused. A reader that leaves before the last line stops the operation. */
export async function* askCache(target: CacheTarget, command: CacheCommand): AsyncGenerator<CacheLine> {
  const directory = resolve(target.dataDir);
  // Never created here: a directory without records is the wrong one.
  if (!isDataDirectory(directory)) {
    throw new ServiceRefused(`there is no cache in ${directory}: name the data directory of the service`);
  }
  const owner = tryLockDirectory(directory);
  if (owner) yield* askHere(owner, target, command);
  else if (target.service) yield* askService(target.service, command);
  else throw new ServiceRefused(`a service uses ${directory}, but the configuration does not say where it listens`);
}

async function* askHere(owner: DirectoryLock, { openCacheAdmin }: CacheTarget, { ask }: CacheCommand) {
  try {
    const admin = await openCacheAdmin();
    try {
      yield* ask(admin);
    } finally {
      await admin.close();
    }
  } finally {
    owner.release();
  }
}

async function* askService(service: Service, { method, path }: CacheCommand): AsyncGenerator<CacheLine> {
  const response = await sendRequest(service, `/v1/cache/${path}`, { method });
  if (!response.ok) throw await refusalOf(response, HINTS);
  for await (const text of linesOf(response, ADVICE)) {
    const { data: line } = cacheLineSchema.safeParse(parseJson(text));
    if (!line) throw new ServiceRefused(`${service.url.host} is not a Veneer service of this version`);
    if (line.kind === 'error') throw new ServiceRefused(line.message);
    yield line;
  }
}
