// Where the cache is looked after: in its directory, where no service has it open, and through the service where one does.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { CacheAdmin } from '../cache/admin/cache-admin.ts';
import { type CacheLine, cacheLineSchema } from '../cache/admin/lines.ts';
import { type DirectoryLock, DirectoryLocked, lockDirectory } from '../state/data-directory.ts';
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

export interface CachePlace {
  readonly dataDir: string;
  /** Opens what is in the data directory. Called by its owner. */
  readonly openCacheAdmin: () => Promise<OpenedCacheAdmin>;
  /** Where a service that owns the data directory can be asked; absent where the configuration does not tell. */
  readonly service: Service | undefined;
}

/** One thing to ask, in both ways. */
export interface CacheQuestion {
  readonly ask: (admin: CacheAdmin) => AsyncGenerator<CacheLine>;
  readonly method: 'GET' | 'POST';
  /** Below `/v1/cache/`. */
  readonly path: string;
}

const HINT = 'set VENEER_TOKEN to a token made with --admin';
const HINTS: Hints = { 401: HINT, 403: HINT };
const ADVICE = 'ask again; what is done by now stays done';

/** The lines of the answer. Throws ServiceRefused. Whoever leaves before the last line stops what runs. */
export async function* askCache(place: CachePlace, question: CacheQuestion): AsyncGenerator<CacheLine> {
  const directory = resolve(place.dataDir);
  // Nothing is made here: a directory without records is the wrong one.
  if (!existsSync(join(directory, 'records.db'))) {
    throw new ServiceRefused(`there is no cache in ${directory}: name the data directory of the service`);
  }
  const owner = findOwnership(directory);
  if (owner) yield* askHere(owner, place, question);
  else if (place.service) yield* askService(place.service, question);
  else throw new ServiceRefused(`a service uses ${directory}, and the configuration does not tell where it listens`);
}

function findOwnership(directory: string): DirectoryLock | undefined {
  try {
    return lockDirectory(directory);
  } catch (error) {
    if (error instanceof DirectoryLocked) return undefined;
    throw error;
  }
}

async function* askHere(owner: DirectoryLock, { openCacheAdmin }: CachePlace, { ask }: CacheQuestion) {
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

async function* askService(service: Service, { method, path }: CacheQuestion): AsyncGenerator<CacheLine> {
  const response = await sendRequest(service, `/v1/cache/${path}`, { method });
  if (!response.ok) throw await refusalOf(response, HINTS);
  for await (const text of linesOf(response, ADVICE)) {
    const { data: line } = cacheLineSchema.safeParse(parseJson(text));
    if (!line) throw new ServiceRefused(`what answers at ${service.url.host} is no Veneer of this version`);
    if (line.kind === 'error') throw new ServiceRefused(line.message);
    yield line;
  }
}
