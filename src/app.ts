// The composition root: every room is made here, by hand, from the configuration.
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Hono } from 'hono';
import type { Logger } from 'pino';
import type { Config } from './config/schema.ts';
import { createDiskStore } from './content/disk.ts';
import { createAdmission } from './http/admission.ts';
import { createAugmentApi } from './http/augment-api.ts';
import { createErrorHandler, notFound } from './http/errors.ts';
import { createHealth } from './http/health.ts';
import { createInspectApi } from './http/inspect.ts';
import { createRegistry } from './http/registry.ts';
import { createRequestLog } from './http/request-log.ts';
import { createBlobs, type TransfersDeps } from './proxy/blobs.ts';
import { createTags } from './proxy/freshness.ts';
import { createIncludes } from './proxy/includes.ts';
import { createInspect } from './proxy/inspect.ts';
import { createLayers } from './proxy/layers.ts';
import { createLinks } from './proxy/links.ts';
import { createManifests } from './proxy/manifests.ts';
import { createOrigins } from './proxy/origin.ts';
import { createPrepare } from './proxy/prepare.ts';
import { createProxy } from './proxy/proxy.ts';
import { createAugmentations } from './proxy/pull.ts';
import { createSqliteStore } from './state/sqlite.ts';
import { createLedger } from './tokens/ledger.ts';
import { createUpstreams } from './upstream/upstreams.ts';

export interface App {
  readonly fetch: Hono['fetch'];
  /** Ends what the app holds: call it when no request is under way any more. */
  close(): Promise<void>;
}

export interface AppDeps {
  readonly config: Config;
  readonly log: Logger;
  readonly version: string;
  readonly now?: () => Date;
  readonly dockerConfigPath?: string | undefined;
}

const TIMEOUTS = { connectMs: 10_000, headersMs: 30_000, bodyMs: 60_000 };
const SWEEP_EVERY_MS = 10 * 60_000;

export async function createApp({
  config,
  log,
  version,
  now = () => new Date(),
  dockerConfigPath,
}: AppDeps): Promise<App> {
  await mkdir(config.dataDir, { recursive: true });
  const records = createSqliteStore({ path: join(config.dataDir, 'records.db'), now });
  const content = await createDiskStore({ directory: join(config.dataDir, 'content') });
  const upstreams = createUpstreams({
    entries: Object.fromEntries(
      Object.entries(config.upstreams).map(([name, { url, ...entry }]) => [name, { ...entry, url: url?.href }]),
    ),
    openUpstreams: config.openUpstreams,
    timeouts: TIMEOUTS,
    retries: 3,
    allowPrivateUrls: config.layers.allowPrivateAddresses,
    ...(dockerConfigPath && { dockerConfigPath }),
  });
  const ledger = createLedger({ records, now, ttlMs: config.tokens.ttlMs });
  const origins = createOrigins({ upstreams, defaultUpstream: config.defaultUpstream });

  const links = createLinks(records);
  const onFailed: TransfersDeps['onFailed'] = (digest, error) =>
    log.warn({ digest, err: error }, 'a transfer failed: its readers were cut off and nothing of it is kept');
  const blobs = createBlobs({ content, links, onFailed });
  const manifests = createManifests({ content, links });
  const tags = createTags({
    records,
    now,
    policy: { tagFreshnessMs: config.cache.tagFreshnessMs, staleMaxAgeMs: config.cache.stale.maxAgeMs },
    fetchManifest: async (origin, tag) => (await manifests.fetch(origin, tag)).digest,
  });
  const augmentations = createAugmentations({ manifests, blobs });
  const layers = createLayers({ content, upstreams, origins, blobs, findStored: ledger.findLayer, onFailed });
  const readIncludes = createIncludes({ origins, tags, manifests, blobs });
  const limits = { maxUnpackedBytes: config.limits.unpackedLayerBytes, maxRatio: config.limits.unpackRatio };
  const prepare = createPrepare({ origins, upstreams, content, tags, blobs, augmentations, readIncludes, limits });
  const proxy = createProxy({ tags, manifests, blobs, layers, augmentations });

  const app = new Hono();
  app.use(createRequestLog(log));
  app.onError(createErrorHandler(log));
  app.notFound(notFound);
  app.route('/', createHealth({ version, checkReady: async () => void (await records.list('token', { limit: 1 })) }));
  app.route('/', createRegistry({ admit: createAdmission({ origins, ledger }), proxy }));
  app.route(
    '/',
    createAugmentApi({
      prepare,
      ledger,
      now,
      options: {
        publicUrl: config.publicUrl?.href,
        attestations: config.attestations,
        ttlMs: config.tokens.ttlMs,
        maxBodyBytes: config.limits.requestBodyBytes,
        limits: { maxLocationCharacters: config.limits.layerLocation, maxIncludes: config.limits.containerIncludes },
      },
    }),
  );

  const inspect = createInspect({ origins, tags, manifests, blobs });
  app.route('/', createInspectApi({ inspect, maxBodyBytes: config.limits.requestBodyBytes }));

  const sweeper = setInterval(
    () => void records.sweep().catch(error => log.error({ err: error }, 'sweep failed')),
    SWEEP_EVERY_MS,
  );
  sweeper.unref();
  return {
    fetch: app.fetch,
    async close() {
      clearInterval(sweeper);
      await upstreams.close();
      await content.close();
      await records.close();
    },
  };
}
